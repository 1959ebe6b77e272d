"""Pages that are made of the code when the site is built, so that they say what it does: commands, settings, errors."""

import base64
import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from error_messages import GAP, error_classes, messages
from sphinx.application import Sphinx

from qiskit_qff.model.config import choices, config_schema
from qiskit_qff.structures.frame import ENERGY_NAMES, FORCE_NAMES, STRESS_NAMES, VIRIAL_NAMES

DOCS = Path(__file__).parents[1]
TARGET = DOCS / "_generated"
NOTEBOOKS = DOCS.parent / "notebooks"


def commands_page() -> str:
    """Every verb with its arguments and options, as typer documents them."""
    command = [sys.executable, "-m", "typer", "qiskit_qff.cli.main", "utils", "docs", "--name", "qff"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text[text.index("\n## ") :]


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
        text = _plain(entry["description"]) + (f" ({allowed})" if allowed else "")
        default = json.dumps(entry["default"], ensure_ascii=False) if "default" in entry else "{}"
        yield f"`{section + '.' if section else ''}{key}` = `{default}`\n: {text}\n"


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


def notebook_pages() -> dict[str, bytes]:
    """Every notebook as a page with its output: Markdown and pictures, by file name."""
    files = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        parts = []
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source))
                continue
            parts.append(f"```python\n{source}\n```")
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "image/png" in data:
                    name = f"{path.stem}-{len(files)}.png"
                    files[name] = base64.b64decode(data["image/png"])
                    parts.append(f"![Output of the cell above]({name})")
                else:
                    text = "".join(output.get("text") or data["text/plain"]).rstrip()
                    parts.append(f"```{{code-block}} text\n:class: output\n\n{text}\n```")
        title, rest = "\n\n".join(parts).split("\n\n", 1)
        link = f"Notebook with output: {{download}}`{path.name} <../../notebooks/{path.name}>`."
        files[f"{path.stem}.md"] = f"{title}\n\n{link}\n\n{rest}\n".encode()
    return files


def write_pages(_app: Sphinx | None = None) -> None:
    """Write all generated parts; a file that would not change is left alone, so that Sphinx need not read it again."""
    parts = {
        "commands.md": commands_page(),
        "settings.md": settings_page(),
        "errors.md": errors_page(),
        "labels.md": labels_page(),
        "extra/config.schema.json": json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n",
    }
    files = {TARGET / name: text.encode() for name, text in parts.items()}
    files |= {DOCS / "notebooks" / name: content for name, content in notebook_pages().items()}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the parts before Sphinx looks for pages."""
    app.connect("builder-inited", write_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
