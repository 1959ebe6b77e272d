"""Results as they come: one JSON file a topic, one entry a job, each with a mark of the sources it was made with."""

import ast
import hashlib
import json
import math
from pathlib import Path

import qiskit_qff

RESULTS = Path(__file__).parents[2] / "results"
SOURCES = ("descriptors/*.py", "compression/*.py", "encoding/*.py", "circuit/*.py", "model/*.py", "training/*.py")
SOURCES = (*SOURCES, "training/baselines/*.py", "cli/baseline_snap.py", "simulation/bispectrum.py")
"""Files of the package that decide what is fitted; a change in one of them makes earlier entries stale."""
DYNAMICS = ("model/fence.py",)
"""What is among them and decides only how simulations run."""
SETS = ("data/li6ps5cl.extxyz.xz", "data/limof5.extxyz.xz")
"""Shipped sets that errors are measured on."""


def fingerprint(config, *, shipped):
    """Twelve digits for the sources, without comments and docstrings, and the default configuration.

    Args:
        config: The default configuration.
        shipped: Whether the shipped sets matter as well.
    """
    package, digest = Path(qiskit_qff.__file__).parent, hashlib.sha256(config.model_dump_json().encode())
    for pattern in (*SOURCES, *SETS) if shipped else SOURCES:
        for path in sorted(package.glob(pattern)):
            if path.relative_to(package).as_posix() not in DYNAMICS:
                digest.update(path.name.encode() + _code(path).encode())
    return digest.hexdigest()[:12]


def _code(path):
    """What a module or a table does: its source without what is only read."""
    if path.suffix != ".py":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            # A string that stands alone is a docstring, of a module, a class, a function or an attribute.
            node.body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return ast.dump(tree)


def read(name, folder=RESULTS):
    """A file of results; one without entries where there is none."""
    path = folder / f"{name}.json"
    return {"entries": {}} | (json.loads(path.read_text()) if path.exists() else {})


def write_entry(name, key, entry, about):
    """Add an entry to a file of results, or replace it."""
    write(name, about | {"entries": read(name)["entries"] | {key: entry}})


def arrange(name, keys):
    """Put entries into the order of some keys, and remove those that no job makes any more."""
    record = read(name)
    entries = {key: record["entries"][key] for key in keys if key in record["entries"]}
    if list(entries) != list(record["entries"]):
        write(name, record | {"entries": entries})


def write(name, record):
    """Exchange a file of results as a whole, so that a kill leaves the old or the new one."""
    path = RESULTS / f"{name}.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(plain(record), indent=1) + "\n")
    fresh.replace(path)


def plain(value):
    """Numbers rounded to six digits, so that files stay small; no NaN."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
