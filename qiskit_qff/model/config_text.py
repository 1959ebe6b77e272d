"""The training configuration as text for people and editors: YAML with a comment at every key, and a JSON Schema."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from qiskit_qff.model.config import TrainConfig

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
WIDTH = 100
"""Column that comments are wrapped at."""

_GLUE = "\u00a0"  # no line ends at it
_BOUNDS = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))


def config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors and other programs."""
    schema = TrainConfig.model_json_schema()
    title = {"title": "Training configuration of qiskit_qff"}
    return {"$schema": SCHEMA_DIALECT, **schema, **title}


def commented_yaml(config: TrainConfig, *, heading: str, notes: Mapping[str, str]) -> str:
    """A configuration that explains itself.

    Args:
        notes: What the data have to do with a value, by dotted name such as ``data.split``.
    """
    values, schema = config.model_dump(mode="json"), config_schema()
    lines = [*_comment(heading)]
    for name, field in TrainConfig.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            lines += ["", *_entry(name, values[name], schema["properties"][name], notes, indent="")]
            continue
        entries = schema["$defs"][section.__name__]
        lines += ["", *_comment(f"---- {entries['description']}"), f"{name}:"]
        for key, entry in entries["properties"].items():
            lines += _entry(f"{name}.{key}", values[name][key], entry, notes, indent="  ")
    return "\n".join(lines) + "\n"


def choices(entry: Mapping[str, Any]) -> str:
    """What values an entry of the schema allows beside its type, in words; empty where any will do."""
    parts = entry.get("anyOf", [entry])
    words = [str(word) for part in parts for word in part.get("enum", ())]
    bounds = [f"{sign} {part[key]:g}" for part in parts for key, sign in _BOUNDS if key in part]
    none = ["or null"] if any(part.get("type") == "null" for part in parts) else []
    return ", ".join([*(["one of " + ", ".join(words)] if words else []), *bounds, *none])


def _entry(name: str, value: object, entry: Mapping[str, Any], notes: Mapping[str, str], *, indent: str) -> list[str]:
    """Comment and ``key: value`` of one setting."""
    allowed = choices(entry)
    text = entry["description"] + (f" ({allowed.replace(' ', _GLUE)})" if allowed else "")
    lines = _comment(text, indent=indent)
    if name in notes:
        lines += _comment(f"Here: {notes[name]}", indent=indent)
    plain = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n")
    return [*lines, f"{indent}{name.rpartition('.')[2]}: {plain.strip()}"]


def _comment(text: str, *, indent: str = "") -> list[str]:
    """Text as comment lines; its own line breaks stay."""
    return [
        f"{indent}# {line.replace(_GLUE, ' ')}".rstrip()
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, WIDTH - len(indent) - 2, break_long_words=False) or [""]
    ]
