"""Pages that are made of the code when the site is built, so that they say what it does: commands, settings, errors."""

import html
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from error_messages import GAP, error_classes, messages
from sphinx.application import Sphinx
from typer.models import ArgumentInfo, OptionInfo

from qiskit_qff.cli.completion import names_of
from qiskit_qff.cli.main import VERBS
from qiskit_qff.model.config_text import choices, config_schema
from qiskit_qff.structures.labels import ENERGY_NAMES, FORCE_NAMES, STRESS_NAMES, VIRIAL_NAMES

TARGET = Path(__file__).parents[1] / "_generated"


def commands_page() -> str:
    """Every verb with its arguments and options, from the signatures of the functions behind them."""
    return "\n".join(line for name, verb in VERBS.items() for line in _command(f"qff {name}", verb))


def _command(name: str, function: Callable[..., None]) -> Iterator[str]:
    """One verb."""
    parameters = list(_parameters(function))
    arguments = [_metavar(parameter) for parameter in parameters if isinstance(parameter.info, ArgumentInfo)]
    yield f"## `{name}`\n"
    yield _plain(inspect.getdoc(function).split("\n\nRaises:")[0]) + "\n"
    yield f"```text\n{' '.join([name, *arguments, '[OPTIONS]'])}\n```\n"
    for parameter in parameters:
        yield f"{_head(parameter)}\n: {_plain(parameter.info.help or '')}{_default(parameter)}\n"


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a verb."""

    name: str
    """Name in the function's signature."""
    kind: Any
    """Type of its value."""
    info: Any
    """What typer was told of it."""
    default: Any
    """Value where it is not given; ``inspect.Parameter.empty`` where it must be."""


def _parameters(function: Callable[..., None]) -> Iterator[Parameter]:
    """Arguments and options in the order of the signature."""
    signature = inspect.signature(function).parameters
    for name, hint in get_type_hints(function, include_extras=True).items():
        for info in (entry for entry in get_args(hint) if isinstance(entry, (ArgumentInfo, OptionInfo))):
            yield Parameter(name, get_args(hint)[0], info, signature[name].default)


def _metavar(parameter: Parameter) -> str:
    """What stands for an argument in a line of usage."""
    return str(parameter.info.metavar or parameter.name.upper())


def _head(parameter: Parameter) -> str:
    """Names of an option, and what it takes; or the argument."""
    if isinstance(parameter.info, ArgumentInfo):
        return f"`{_metavar(parameter)}`"
    names = ", ".join(f"`{name}`" for names in names_of(parameter.info) for name in names.split("/"))
    if parameter.kind in (bool, bool | None):
        return names
    text = str(parameter.kind)
    words = (("Path", "PATH"), ("int", "N"), ("float", "X"), ("str", "WORD"))
    return f"{names} *{parameter.info.metavar or next(word for part, word in words if part in text)}*"


def _default(parameter: Parameter) -> str:
    """What holds where an option is not given."""
    if isinstance(parameter.info, ArgumentInfo):
        return ""
    if parameter.default is inspect.Parameter.empty:
        return " **Required.**"
    if parameter.default is None or parameter.default is False:
        return ""
    return " Default: yes." if parameter.default is True else f" Default: `{parameter.default}`."


def settings_page() -> str:
    """Every setting of a training configuration."""
    schema = config_schema()
    lines: list[str] = []
    plain = {}
    for name, entry in schema["properties"].items():
        reference = entry.get("$ref", "").rpartition("/")[2]
        if not reference:
            plain[name] = entry
            continue
        section = schema["$defs"][reference]
        lines += [f"## `{name}`\n", _plain(section["description"]) + "\n", *_settings(section["properties"], name)]
    return "\n".join([*lines, "## At the top level\n", *_settings(plain, "")])


def _settings(properties: dict[str, Any], section: str) -> Iterator[str]:
    """The keys of one section."""
    for key, entry in properties.items():
        allowed = choices(entry)
        text = _plain(entry["description"])
        text = text[0].upper() + text[1:] + (f" ({allowed})" if allowed else "")
        default = json.dumps(entry["default"], ensure_ascii=False) if "default" in entry else "{}"
        yield f"`{section + '.' if section else ''}{key}`\n: {text}. Default: `{default}`.\n"


def errors_page() -> str:
    """Every message, by class of error."""
    lines = []
    found = messages()
    for kind, meaning in error_classes().items():
        if members := sorted({(m.text, m.module) for m in found if m.kind == kind}):
            lines += [f"### `{kind}`\n", _plain(meaning) + "\n"]
            lines += [f"- {_quoted(text)} <br><small>`{module}`</small>" for text, module in members]
            lines.append("")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A message as it stands, whatever signs are in it."""
    return f"<code>{html.escape(' '.join(text.split())).replace(GAP, '<i>…</i>')}</code>"


def _plain(text: str) -> str:
    """Help text as one paragraph of Markdown, without marks that typer's or Sphinx's own would be."""
    return " ".join(text.split()).replace("``", "`").replace("*", r"\*").replace("<", r"\<")


def labels_page() -> str:
    """Names under which energies, forces and stresses are found."""
    kinds = (
        ("total energy in eV", ENERGY_NAMES),
        ("forces in eV/Å, three columns of each atom", FORCE_NAMES),
        ("stress in eV/Å³, 9 numbers, or 6 in the order xx yy zz yz xz xy", STRESS_NAMES),
        ("virial in eV, W = -V σ, used where there is no stress", VIRIAL_NAMES),
    )
    rows = [f"| {what} | {', '.join(f'`{name}`' for name in names)} |" for what, names in kinds]
    return "\n".join(["| what | names |", "|---|---|", *rows]) + "\n"


def notebooks_page() -> str:
    """Title and first paragraph of every notebook."""
    lines = []
    for path in sorted((TARGET.parents[1] / "notebooks").glob("*.ipynb")):
        first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
        title, paragraph = first.split("\n\n")[:2]
        lines.append(f"**{title.lstrip('# ')}** (`{path.name}`)\n: {' '.join(paragraph.split())}\n")
    return "\n".join(lines)


def write_pages(_app: Sphinx | None = None) -> None:
    """Write all generated parts; a file that would not change is left alone, so that Sphinx need not read it again."""
    parts = {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "labels.md": labels_page(),
        "notebooks.md": notebooks_page(),
        "extra/config.schema.json": json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in parts.items():
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the parts before Sphinx looks for pages."""
    app.connect("builder-inited", write_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
