"""Errors that a user can act on: each says where, what was found, what was expected, and what to do.

The command line turns every ``QFFError`` into one line on stderr and exit code 2; anything else is a bug of
this package and keeps its traceback.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

SectionType = TypeVar("SectionType", bound="BaseModel")


class QFFError(Exception):
    """Base class of all errors that input, settings or surroundings can cause."""


class DataError(QFFError):
    """A structure file or data set that can't be used; names file, frame and atom."""


class ConfigError(QFFError):
    """A setting that is unknown, has the wrong type or contradicts another one."""


class ModelFileError(QFFError):
    """A model file that can't be read, is damaged, or was written by a newer version."""


class BudgetError(QFFError):
    """More trainable parameters than the limit allows."""


class BackendError(QFFError):
    """A quantum backend that is unknown, unreachable or not able to run what was asked."""


class MissingDependencyError(QFFError):
    """An optional dependency that is not installed; names the extra that brings it."""


class SimulationError(QFFError):
    """A simulation that became unphysical: it exploded, or lost an atom."""


def suggest(name: str, known: Sequence[str]) -> str:
    """A remark for an error message: known names that look similar, and all of them if there are few."""
    near = get_close_matches(name, known, n=5, cutoff=0.5)
    shown = known if len(known) <= 12 else [*known[:10], f"... ({len(known)} in all)"]
    remarks = [f"Did you mean {', '.join(near)}?"] if near else []
    if not near or len(known) <= 12:
        remarks.append(f"Known: {', '.join(shown)}.")
    return " ".join(remarks)


def parse_section(
    kind: type[SectionType], data: Any, *, where: str, options: Mapping[str, str] | None = None
) -> SectionType:
    """Check a mapping against the pydantic model that it should be."""
    from pydantic import ValidationError

    if not isinstance(data, dict):
        raise ConfigError(f"{where}: should be a mapping, found {type(data).__name__}.")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        told = dict(options or {})
        lines = {_dotted(item): _explain(kind, item, told) for item in reversed(error.errors())}
        from_options = "; ".join(line for name, line in reversed(lines.items()) if name in told)
        from_file = "; ".join(line for name, line in reversed(lines.items()) if name not in told)
        parts = [from_options, f"{where}: {from_file}" if from_file else ""]
        raise ConfigError("; ".join(part for part in parts if part)) from error


def _dotted(item: Any) -> str:
    """The place of an error; pydantic adds the alternatives of a type, such as ``literal['auto']``."""
    is_name = item["type"] == "extra_forbidden"
    return ".".join(str(part) for part in item["loc"] if is_name or isinstance(part, int) or part.isidentifier())


def _explain(root: type[BaseModel], item: Any, options: Mapping[str, str]) -> str:
    place, kind = item["loc"], item["type"]
    name = _dotted(item)
    if kind == "missing":
        return f"{name}: missing; it has no default"
    if kind != "extra_forbidden":
        message = item["msg"].removeprefix("Value error, ")
        return f"{options.get(name, name)}: {message} (given: {reprlib.repr(item['input'])})"
    known = _keys_of(root, place[:-1])
    near = get_close_matches(str(place[-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key '{name}'; {hint}"


def _keys_of(root: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    section = root
    for part in place:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        section = annotation
    return list(section.model_fields)
