"""Bad input: exit code 2, one clear line with place and remedy, no traceback, nothing half-written."""

import json
import lzma
import re
import subprocess
import sys

import numpy as np
import pytest
from ase.io import read, write

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


def test_unknown_species_at_evaluation(trained, tmp_path, frames, capsys) -> None:
    frames[3].symbols[5] = "Ag"
    write(tmp_path / "silver.extxyz", frames)
    arguments = ["evaluate", trained / "run", tmp_path / "silver.extxyz"]
    refused(capsys, tmp_path, arguments, r"silver\.extxyz", "frame 3", "atom 5", "Ag", "Cu, Au|Cu Au", "train")


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_missing_label(tmp_path, frames, capsys, label) -> None:
    del frames[2].calc.results[label]
    write(tmp_path / "gap.extxyz", frames)
    refused(capsys, tmp_path, train(tmp_path / "gap.extxyz", tmp_path), r"gap\.extxyz", "frame 2", label)


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_nan_label(tmp_path, frames, capsys, label) -> None:
    if label == "energy":
        frames[1].calc.results["energy"] = float("nan")
    else:
        frames[1].calc.results["forces"][4, 2] = np.nan
    write(tmp_path / "nan.extxyz", frames)
    refused(capsys, tmp_path, train(tmp_path / "nan.extxyz", tmp_path), r"nan\.extxyz", "frame 1", label.rstrip("s"))


def test_nan_position(trained, tmp_path, frames, capsys) -> None:
    frames[1].positions[4, 0] = np.inf
    write(tmp_path / "inf.extxyz", frames)
    for arguments in (train(tmp_path / "inf.extxyz", tmp_path), ["evaluate", trained / "run", tmp_path / "inf.extxyz"]):
        refused(capsys, tmp_path, arguments, r"inf\.extxyz", "frame 1", "atom 4", "position")


def test_zero_volume(trained, tmp_path, frames, capsys) -> None:
    frames[0].cell[2] = frames[0].cell[1]
    write(tmp_path / "flat.extxyz", frames)
    for arguments in (
        train(tmp_path / "flat.extxyz", tmp_path),
        ["evaluate", trained / "run", tmp_path / "flat.extxyz"],
    ):
        refused(capsys, tmp_path, arguments, r"flat\.extxyz", "frame 0", "volume", "cell")


def test_two_atoms_on_one_site(trained, tmp_path, frames, capsys) -> None:
    frames[4].positions[2] = frames[4].positions[6]
    write(tmp_path / "clash.extxyz", frames)
    for arguments in (
        train(tmp_path / "clash.extxyz", tmp_path),
        ["evaluate", trained / "run", tmp_path / "clash.extxyz"],
        ["md", trained / "run", tmp_path / "clash.extxyz", "--frame", "4", "--steps", "3", "--out", tmp_path / "out"],
    ):
        refused(capsys, tmp_path, arguments, r"clash\.extxyz", "frame 4", "atom", "2", "6")


def test_empty_file(trained, tmp_path, capsys) -> None:
    (tmp_path / "empty.extxyz").touch()
    for arguments in (
        train(tmp_path / "empty.extxyz", tmp_path),
        ["evaluate", trained / "run", tmp_path / "empty.extxyz"],
        ["validate", tmp_path / "empty.extxyz"],
    ):
        refused(capsys, tmp_path, arguments, r"empty\.extxyz", "empty")


def test_truncated_xz(trained, tmp_path, capsys) -> None:
    content = lzma.compress((trained / "data.extxyz").read_bytes())
    (tmp_path / "cut.extxyz.xz").write_bytes(content[: len(content) // 2])
    for arguments in (
        train(tmp_path / "cut.extxyz.xz", tmp_path),
        ["evaluate", trained / "run", tmp_path / "cut.extxyz.xz"],
        ["validate", tmp_path / "cut.extxyz.xz"],
    ):
        refused(capsys, tmp_path, arguments, r"cut\.extxyz\.xz", "damaged|truncated|incomplete|cut off|ends")


def test_missing_file(trained, tmp_path, capsys) -> None:
    for arguments in (
        train(tmp_path / "absent.extxyz", tmp_path),
        train(tmp_path / "absent.yaml", tmp_path),
        ["evaluate", trained / "run", tmp_path / "absent.extxyz"],
        ["evaluate", tmp_path / "absent.json", trained / "data.extxyz"],
        ["info", tmp_path / "absent.json"],
    ):
        refused(capsys, tmp_path, arguments, "absent")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("circuit: {n_qbits: 4}", ("circuit.n_qbits", "did you mean 'n_qubits'")),
        ("cirquit: {n_qubits: 4}", ("cirquit", "did you mean 'circuit'")),
        ("circuit: {n_qubits: 40}", ("circuit.n_qubits", "40")),
        ("circuit: {family: cnot_soup}", ("circuit.family", "ry_tree")),
        ("data: [1, 2", ("YAML",)),
        ("just words", ("mapping",)),
        ("circuit:\n  n_qubits: 3\n  layers: 2\n  n_qubits: 4", ("'n_qubits' is given twice, in lines 2 and 4",)),
        ("seed: 1\ncircuit: {n_qubits: 3}\nseed: 1", ("'seed' is given twice, in lines 1 and 3",)),
        ("loss: {element_weights: {Xx: 5}}", ("Xx", "element")),
        ("loss: {element_weights: {Li: .inf}}", ("Li", "finite")),
    ],
)
def test_wrong_config(tmp_path, capsys, text, words) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    refused(capsys, tmp_path, train(tmp_path / "wrong.yaml", tmp_path), r"wrong\.yaml", *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 999}, ("999", "upgrade")),
        ({"version": "one"}, ("version",)),
        ({"format": "something else"}, ("not a model",)),
        ({"species": [{"number": 3}]}, ("damaged|edited",)),
        ({"r_cut": None}, ("damaged|edited",)),
    ],
)
def test_wrong_model_file(trained, tmp_path, capsys, change, words) -> None:
    document = json.loads((trained / "run" / "model.json").read_text()) | change
    (tmp_path / "odd.json").write_text(json.dumps(document))
    for arguments in (
        ["info", tmp_path / "odd.json"],
        ["evaluate", tmp_path / "odd.json", trained / "data.extxyz"],
        ["md", tmp_path / "odd.json", trained / "data.extxyz", "--steps", "3", "--out", tmp_path / "out"],
    ):
        refused(capsys, tmp_path, arguments, r"odd\.json", *words)


def test_truncated_model_file(trained, tmp_path, capsys) -> None:
    text = (trained / "run" / "model.json").read_text()
    (tmp_path / "cut.json").write_text(text[: len(text) // 2])
    refused(capsys, tmp_path, ["info", tmp_path / "cut.json"], r"cut\.json", "JSON")


def test_budget_exceeded(trained, tmp_path, capsys) -> None:
    settings = "circuit: {family: brickwork_cz, readout: z_diagonal, n_qubits: 4, layers: 8}\nmax_parameters: 40\n"
    (tmp_path / "large.yaml").write_text(f"data: {{path: {trained / 'data.extxyz'}}}\n{settings}")
    refused(capsys, tmp_path, train(tmp_path / "large.yaml", tmp_path), "40", "parameters", "layers|qubits|readouts")


def test_too_few_frames_to_hold_any_out(tmp_path, frames, capsys) -> None:
    write(tmp_path / "one.extxyz", frames[:1])
    refused(capsys, tmp_path, train(tmp_path / "one.extxyz", tmp_path), r"one\.extxyz", "too few frames")


def test_unknown_backend_strategy_and_mitigation(trained, tmp_path, capsys) -> None:
    arguments = ["evaluate", trained / "run", trained / "data.extxyz", "--backend"]
    refused(capsys, tmp_path, [*arguments, "fake_torinoo", "--shots", "10"], "fake_torinoo", "fake_torino")
    refused(capsys, tmp_path, [*arguments, "statevector", "--strategy", "magic"], "magic", "operator")
    refused(capsys, tmp_path, [*arguments, "aer", "--shots", "10", "--mitigation", "hope"], "hope", "none")
    refused(capsys, tmp_path, [*arguments, "aer"], "shots")
    decoupled = ["--shots", "10", "--dynamical-decoupling"]
    refused(capsys, tmp_path, [*arguments, "aer", *decoupled], "aer", "durations|how long", "fake_torino")
    # Words that exact values have no use for are checked all the same.
    refused(capsys, tmp_path, [*arguments, "exact", "--strategy", "operater"], "operater", "mean operator")
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


def test_reading_back_is_not_lossy(trained, alloy_frames) -> None:
    """The fixtures themselves: what was written is what the calculator said."""
    atoms = read(trained / "data.extxyz", "0")
    assert atoms.get_potential_energy() == pytest.approx(alloy_frames[0].get_potential_energy())


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
