"""The fault suite part of the results: how many faults of each kind were tried, and survived."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def read():
    path = RESULTS / "faults.json"
    return json.loads(path.read_text()) if path.exists() else None


def kinds():
    """Faults tried and survived by kind, in the order of the file."""
    found = {}
    for row in (read() or {"rows": []})["rows"]:
        tried, survived = found.get(row["fault"], (0, 0))
        found[row["fault"]] = (tried + row["tried"], survived + row["survived"])
    return found


def lines():
    """One line."""
    found = kinds()
    if not found:
        return []
    tried, survived = (sum(counts) for counts in zip(*found.values(), strict=True))
    words = "; ".join(f"{name} {good} of {count}" for name, (count, good) in found.items())
    return [f"- Faults survived: {survived:,} of {tried:,} ({words}). `benchmarks/faults/run_all.py`"]


def sections():
    """The table by command."""
    document = read()
    if document is None:
        return []
    rows = [
        f"| {row['fault']} | {row['command']} | {row['tried']} | {row['survived']} | {row['remark']} |"
        for row in document["rows"]
    ]
    note = "Results after a fault equal those of a run that nothing happened to. `benchmarks/faults/run_all.py`"
    return ["## Faults", "", "| fault | command | tried | survived | |", "|---|---|---|---|---|", *rows, "", note, ""]
