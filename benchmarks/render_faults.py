"""The faults that results survive: how many kills and malformed files were tried, by command."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SCRIPTS = "`benchmarks/faults/kills.py`, `malformed.py`"


def rows():
    path = RESULTS / "faults.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def lines():
    """One line."""
    found = {}
    for row in rows():
        tried, survived = found.get(row["fault"], (0, 0))
        found[row["fault"]] = (tried + row["tried"], survived + row["survived"])
    words = "; ".join(f"{name} {good} of {count}" for name, (count, good) in found.items())
    return [f"- Faults survived: {words}. {SCRIPTS}"] if found else []


def sections():
    """The table by command."""
    table = [
        f"| {row['fault']} | {row['command']} | {row['tried']} | {row['survived']} | {row['remark']} |"
        for row in rows()
    ]
    note = f"Results after a kill and a restart equal those of a run that was never killed. {SCRIPTS}"
    head = ["## Faults", "", "| fault | command | tried | survived | |", "|---|---|---|---|---|"]
    return [*head, *table, "", note, ""] if table else []
