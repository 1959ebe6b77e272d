"""Bad input: exit code 2, one clear line with place and remedy, no traceback, nothing half-written."""

import re
import subprocess
import sys

import numpy as np
import pytest
from ase.io import write

from qiskit_qff.cli.main import run


@pytest.fixture
def frames(alloy_frames):
    return [read_copy(atoms) for atoms in alloy_frames]


def read_copy(atoms):
    """A copy whose labels can be changed."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=np.array(atoms.get_forces()))
    return copy


def refused(capsys, tmp_path, arguments, *words) -> str:
    """Run, and check the form of the refusal: code, one line, what it names, nothing written."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code = run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 2, captured.out + captured.err
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("time step ")]  # a note of md
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("qff: error: ")
    assert "Traceback" not in captured.err
    for word in words:
        assert re.search(word, captured.err), f"{word!r} not in {captured.err!r}"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    return captured.err


def train(path, tmp_path):
    return ["train", path, "--out", tmp_path / "out" / "deep"]


def put(atoms, name, where, value):
    """Change one number of a frame's labels."""
    atoms.calc.results[name] = np.array(atoms.calc.results[name])
    atoms.calc.results[name][where] = value


def on_one_site(frames):
    frames[4].positions[2] = frames[4].positions[6]


DAMAGE = {
    "lacks energy": (lambda f: f[2].calc.results.pop("energy"), "train", ("frame 2", "energy")),
    "lacks forces": (lambda f: f[2].calc.results.pop("forces"), "train", ("frame 2", "forces")),
    "no volume": (
        lambda f: f[0].cell.array.__setitem__(2, f[0].cell[1]), "train evaluate", ("frame 0", "volume", "cell")
    ),
    "two on a site": (on_one_site, "train evaluate md", ("frame 4", "atom", "2", "6")),
    "unknown element": (
        lambda f: f[3].symbols.__setitem__(5, "Ag"), "evaluate", ("frame 3", "atom 5", "Ag", "Cu, Au|Cu Au", "train")
    ),
    "too few frames": (lambda f: f.__delitem__(slice(1, None)), "train", ("too few frames",)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_frames(trained, tmp_path, frames, capsys, damage) -> None:
    change, verbs, words = DAMAGE[damage]
    change(frames)
    path = tmp_path / "damaged.extxyz"
    write(path, frames)
    arguments = {
        "train": train(path, tmp_path),
        "evaluate": ["evaluate", trained / "run", path],
        "md": ["md", trained / "run", path, "--frame", "4", "--steps", "3", "--out", tmp_path / "out"],
    }
    for verb in verbs.split():
        refused(capsys, tmp_path, arguments[verb], r"damaged\.extxyz", *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("circuit: {n_qbits: 4}", ("circuit.n_qbits", "did you mean 'n_qubits'")),
        ("cirquit: {n_qubits: 4}", ("cirquit", "did you mean 'circuit'")),
        ("circuit: {n_qubits: 40}", ("circuit.n_qubits", "40")),
        ("circuit: {family: cnot_soup}", ("circuit.family", "ry_tree")),
        ("data: [1, 2", ("YAML",)),
        ("just words", ("mapping",)),
        ("loss: {element_weights: {Xx: 5}}", ("Xx", "element")),
        ("loss: {element_weights: {Li: .inf}}", ("Li", "finite")),
    ],
)
def test_wrong_config(tmp_path, capsys, text, words) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    refused(capsys, tmp_path, train(tmp_path / "wrong.yaml", tmp_path), r"wrong\.yaml", *words)


def test_budget_exceeded(trained, tmp_path, capsys) -> None:
    settings = "circuit: {family: brickwork_cz, readout: z_diagonal, n_qubits: 4, layers: 8}\nmax_parameters: 40\n"
    (tmp_path / "large.yaml").write_text(f"data: {{path: {trained / 'data.extxyz'}}}\n{settings}")
    refused(capsys, tmp_path, train(tmp_path / "large.yaml", tmp_path), "40", "parameters", "layers|qubits|readouts")


def test_unknown_backend_and_mitigation(trained, tmp_path, capsys) -> None:
    arguments = ["evaluate", trained / "run", trained / "data.extxyz", "--backend"]
    refused(capsys, tmp_path, [*arguments, "fake_kingstonn", "--shots", "10"], "fake_kingstonn", "fake_kingston")
    refused(capsys, tmp_path, [*arguments, "aer", "--shots", "10", "--mitigation", "hope"], "hope", "none")
    refused(capsys, tmp_path, [*arguments, "aer"], "shots")
    decoupled = ["--shots", "10", "--dynamical-decoupling"]
    refused(capsys, tmp_path, [*arguments, "aer", *decoupled], "aer", "durations|how long", "fake_kingston")
    # Words that exact values have no use for are checked all the same.
    refused(capsys, tmp_path, [*arguments, "exact", "--mitigation", "zen"], "zen", "mean zne")
    for noiseless in ("exact", "statevector"):
        refused(capsys, tmp_path, [*arguments, noiseless, "--mitigation", "zne"], noiseless, "no noise")
        refused(capsys, tmp_path, [*arguments, noiseless, "--dynamical-decoupling"], noiseless, "no noise")


def test_the_process_itself(tmp_path) -> None:
    (tmp_path / "empty.extxyz").touch()
    command = [sys.executable, "-m", "qiskit_qff", "train", "empty.extxyz", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "empty.extxyz" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty.extxyz"]


def test_cutoff_that_reaches_no_neighbour(tmp_path, frames, capsys) -> None:
    write(tmp_path / "alloy.extxyz", frames)
    arguments = [*train(tmp_path / "alloy.extxyz", tmp_path), "--r-cut", "1.2"]
    refused(capsys, tmp_path, arguments, "Cu, Au", "neighbour", "r_cut")


def test_element_that_only_the_test_frames_hold(tmp_path, frames, capsys) -> None:
    frames[-1].symbols[5] = "Ag"
    write(tmp_path / "silver.extxyz", frames)
    arguments = [*train(tmp_path / "silver.extxyz", tmp_path), "--split", "block"]
    refused(capsys, tmp_path, arguments, f"frame {len(frames) - 1}", "held out", "Ag", "--split")


def test_budget_below_the_smallest_model(tmp_path, frames, capsys) -> None:
    for frame in frames:
        frame.symbols[5] = "Ag"
    write(tmp_path / "alloy.extxyz", frames)
    arguments = [*train(tmp_path / "alloy.extxyz", tmp_path), "--max-parameters", "3"]
    error = refused(capsys, tmp_path, arguments, "max_parameters is 3", "4 in all")
    assert "choose 'ry_tree'" not in error
