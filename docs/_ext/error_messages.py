"""Every error message that the package can raise, read off its source."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "qiskit_qff"
GAP = "…"
"""Stands for what a message fills in."""


@dataclass(frozen=True)
class Message:
    """One message of an error that a user can act on."""

    kind: str
    """Class of the error."""
    text: str
    """The message, with GAP where names and numbers go."""
    module: str
    """Module that raises it."""


def error_classes() -> dict[str, str]:
    """Classes of errors and the first line of what they mean, base class first."""
    tree = ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))
    return {
        node.name: (ast.get_docstring(node) or "").splitlines()[0]
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def messages() -> list[Message]:
    """All messages, by class of error, module and place."""
    kinds = list(error_classes())
    found = [message for path in sorted(PACKAGE.rglob("*.py")) for message in _messages_of(path, kinds)]
    return sorted(dict.fromkeys(found), key=lambda message: kinds.index(message.kind))


def _messages_of(path: Path, kinds: list[str]) -> Iterator[Message]:
    """Messages of one module."""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds and node.args):
            continue
        text = template(node.args[0])
        if text.replace(GAP, "").strip(" .:;,"):
            yield Message(node.func.id, text, module)


def template(node: ast.expr) -> str:
    """A message as it is written, with gaps where values go."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return GAP


def templates() -> set[str]:
    """Every text in the source, with gaps: notes and defects of data are no raised errors, but users meet them, too."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
                found.add(normalised(template(node)))
    return found - {GAP, ""}


def normalised(text: str) -> str:
    """A template in one line, where neighbouring gaps are one."""
    return re.sub(rf"(?:{GAP})+", GAP, " ".join(text.split()))
