"""Every verb keeps one promise: with ``--json`` the last line on stdout is one JSON object, and the only line.

A new verb has to be listed in :data:`CHEAP` with a quick invocation, or in :data:`ELSEWHERE` with the place where it is
tried with ``--json``.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from ase.build import bulk
from ase.io import write

from qiskit_qff.cli.main import app, run

# {model}: directory of qff train; {data}: labelled frames; {alloy}, {open}: a structure, without and with pores;
# {new}: a path that does not exist.
CHEAP: dict[str, str] = {
    "build example": "li6ps5cl --out {new}.extxyz",
    "build supercell": "{alloy} --repeat 2,1,1 --out {new}.extxyz",
    "build insert": "{open} --number 1 --least S=2.2 --reach 1.0 --out {new}.extxyz",
    "build vacancies": "{alloy} --remove Cu=1 --count 2 --out {new}.extxyz",
    "build order": "{cif} --count 2 --out {new}.extxyz",
    "build strain": "{alloy} --count 2 --out {new}.extxyz",
    "build rattle": "{alloy} --count 2 --out {new}.extxyz",
    "label": "{alloy} --calculator emt --out {new}.extxyz",
    "validate": "{data}",
    "train": "{config} --out {new}",
    "evaluate": "{model} {data}",
    "info": "{model}",
    "baseline": "{config} --models mean",
    "cost": "{model} --backend aer --atoms Cu5Au3",
    "calibrate": "{model} --backend exact --out {new}.json",
    "md": "{model} {alloy} --steps 4 --out {new}",
    "learn": "{learn} --out {new} --dry-run",
    "select": "{model} {data} --n 2 --out {new}.extxyz",
    "lammps": "{model} {alloy} --out {new}",
    "export": "{model} --out {new}.json",
    "schema": "",
    "report": "{model} --out {new}.html",
    "analyse": "{data} --frame-time 1 --element Cu --out {new}",
}
ELSEWHERE = {"demo": ".ci/run", "socket": "tests/interfaces/test_ase.py"}
"""Too long for here, or in need of a server."""

HALF_AND_HALF = """
data_alloy
_cell_length_a 3.9
_cell_length_b 3.9
_cell_length_c 7.8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cu1 Cu 0 0 0 0.5
Cu2 Cu 0 0 0.5 0.5
Au1 Au 0.5 0.5 0.25 1
"""


def commands(group=None, prefix: str = "") -> dict[str, object]:
    """Every command that does something, by its words."""
    group = typer.main.get_command(app) if group is None else group
    found: dict[str, object] = {}
    for name, command in group.commands.items():
        words = f"{prefix} {name}".strip()
        found |= commands(command, words) if hasattr(command, "commands") else {words: command}
    return found


@pytest.fixture(scope="module")
def places(trained, tmp_path_factory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("json")
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols[[1, 4, 6]] = "Au"
    atoms.rattle(0.05, seed=1)
    write(directory / "alloy.extxyz", atoms)
    write(directory / "open.extxyz", bulk("S", "sc", a=3.2) * (2, 2, 2))
    (directory / "learn.yaml").write_text(f"start: {trained / 'data.extxyz'}\nlabel: {{calculator: emt}}\n")
    (directory / "half.cif").write_text(HALF_AND_HALF)
    return {
        "model": trained / "run",
        "data": trained / "data.extxyz",
        "config": trained / "config.yaml",
        "alloy": directory / "alloy.extxyz",
        "open": directory / "open.extxyz",
        "learn": directory / "learn.yaml",
        "cif": directory / "half.cif",
    }


def test_every_verb_offers_json() -> None:
    for words, command in commands().items():
        options = [option for parameter in command.params for option in parameter.opts]
        assert "--json" in options, f"qff {words} lacks --json"


def test_every_verb_is_tried() -> None:
    assert set(commands()) == set(CHEAP) | set(ELSEWHERE)
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


def test_the_process_itself(places) -> None:
    command = [sys.executable, "-m", "qiskit_qff", "validate", str(places["data"]), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["trainable"]
    assert done.stdout.count("\n") == 1
    assert "composition" in done.stderr
