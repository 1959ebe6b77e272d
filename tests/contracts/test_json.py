"""Every verb keeps one promise: with ``--json`` the last line on stdout is one JSON object, and the only line.

A new verb has to be listed in :data:`CHEAP` with a quick invocation, or in :data:`ELSEWHERE` with the place where it is
tried with ``--json``.
"""

import json
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from qiskit_qff.cli.main import VERBS, run

# {model}: directory of qff train; {data}: labelled frames; {alloy}: a structure; {new}: a path that does not exist.
CHEAP: dict[str, str] = {
    "label": "{alloy} --calculator emt --out {new}.extxyz",
    "validate": "{data}",
    "train": "{config} --out {new}",
    "evaluate": "{model} {data}",
    "info": "{model}",
    "baseline": "{config} --models linear",
    "cost": "{model} --backend aer",
    "calibrate": "{model} --backend exact --out {new}.json",
    "md": "{model} {alloy} --steps 4 --out {new}",
    "learn": "{learn} --out {new} --dry-run",
    "select": "{model} {data} --n 2 --out {new}.extxyz",
    "lammps": "{model} {alloy} --out {new}",
    "export": "{model} --out {new}.json",
    "report": "{model} --out {new}.html",
    "analyse": "{data} --frame-time 1 --element Cu --out {new}",
}
ELSEWHERE = {"demo": ".ci/run"}
"""Too long for here."""


@pytest.fixture(scope="module")
def places(trained, tmp_path_factory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("json")
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols[[1, 4, 6]] = "Au"
    atoms.rattle(0.05, seed=1)
    write(directory / "alloy.extxyz", atoms)
    (directory / "learn.yaml").write_text(f"start: {trained / 'data.extxyz'}\nlabel: {{calculator: emt}}\n")
    return {
        "model": trained / "run",
        "data": trained / "data.extxyz",
        "config": trained / "config.yaml",
        "alloy": directory / "alloy.extxyz",
        "learn": directory / "learn.yaml",
    }


def test_every_verb_is_tried() -> None:
    assert set(VERBS) == set(CHEAP) | set(ELSEWHERE)
    for words, place in ELSEWHERE.items():
        assert f"qff {words}" in (Path(__file__).parents[2] / place).read_text()
        assert "--json" in (Path(__file__).parents[2] / place).read_text()


@pytest.mark.parametrize("words", CHEAP)
def test_stdout_is_one_json_object(words, places, tmp_path, capsys) -> None:
    line = CHEAP[words].format(**places, new=tmp_path / "new")
    assert run([*words.split(), *line.split(), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1, captured.out
    result = json.loads(captured.out, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    assert isinstance(result, dict)
    assert result
    assert "Traceback" not in captured.err
