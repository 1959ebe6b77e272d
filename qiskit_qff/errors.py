"""Errors that a user can act on: each says where, what was found, what was expected, and what to do.

The command line turns every ``QFFError`` into one line on stderr and exit code 2; anything else is a bug of
this package and keeps its traceback.
"""

from collections.abc import Sequence
from difflib import get_close_matches


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
