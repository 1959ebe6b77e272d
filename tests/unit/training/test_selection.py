"""Selection of frames to label: what is far out comes first, and nothing comes twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read, write

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.selection import grade_candidates, select


@pytest.fixture(scope="module")
def grader(trained):
    return ForceField.load(trained / "run" / "model.json").uncertainty()


@pytest.fixture(scope="module")
def known(trained):
    chosen = json.loads((trained / "run" / "metrics.json").read_text())["train_frames"]
    return [Frame.from_atoms(read(trained / "data.extxyz", k)) for k in chosen]


def strained(frame, size):
    return replace(frame, positions=frame.positions * size, cell=frame.cell * size)


def rattled(frame, rng, size):
    return replace(frame, positions=frame.positions + rng.normal(0.0, size, frame.positions.shape))


def graded(grader, frames):
    return grade_candidates(grader, frames, progress=lambda *_: None)


def test_takes_what_is_outside_and_no_near_copies_of_it(grader, known, rng):
    squeezed, stretched, shaken = strained(known[0], 0.85), strained(known[1], 1.25), rattled(known[2], rng, 0.5)
    copies = [rattled(squeezed, rng, 1e-4) for _ in range(5)]
    frames = [*known, *copies, squeezed, stretched, shaken]
    chosen = select(graded(grader, frames), 4)
    kinds = ["known"] * len(known) + ["squeezed"] * 6 + ["stretched", "shaken"]
    found = [kinds[s.candidate.index] for s in chosen]
    assert set(found[:2]) == {"shaken", "squeezed"}
    assert "stretched" in found
    assert all(s.gain < 0.2 * s.first_gain for s in chosen[2:] if kinds[s.candidate.index] == "squeezed")


def test_one_new_atom_outweighs_many_known_ones(grader, known):
    large = [Frame.from_atoms(frame.to_atoms() * (2, 2, 2)) for frame in known]
    positions = large[3].positions.copy()
    positions[5, 0] += 1.0
    candidates = graded(grader, [*large, replace(large[3], positions=positions)])
    assert candidates[-1].grades.outside.any()
    assert select(candidates, 1)[0].candidate.index == len(large)


def test_lazy_greedy_is_greedy(grader, known, rng):
    frames = [rattled(frame, rng, size) for frame in known for size in (0.02, 0.1, 0.3)]
    candidates = graded(grader, frames)
    taken, total = [], 0.0
    information = [np.eye(features.shape[1]) for features in candidates[0].features]

    def determinant(parts):
        return sum(np.linalg.slogdet(part)[1] for part in parts)

    def with_frame(candidate):
        return [part + y.T @ y for part, y in zip(information, candidate.features, strict=True)]

    lazy = select(candidates, 6)
    for found in lazy:
        rest = [c for c in candidates if c.index not in taken]
        best = max(rest, key=lambda c: determinant(with_frame(c)))
        assert found.candidate.index == best.index
        information = with_frame(best)
        taken.append(best.index)
        total += found.gain
    assert total == pytest.approx(determinant(information), rel=1e-9)
    gains = [found.gain for found in lazy]
    assert gains == sorted(gains, reverse=True)
    assert all(found.gain <= found.first_gain + 1e-9 for found in lazy)


def test_command_writes_the_frames_it_names(trained, known, tmp_path, capsys, rng):
    """Of two frames near known ones, one far from them and one that the model was trained on."""
    squeezed, near = strained(known[0], 0.85), [rattled(frame, rng, 0.01) for frame in known[:2]]
    write(tmp_path / "candidates.extxyz", [frame.to_atoms() for frame in [known[5], *near, squeezed]])
    arguments = [
        "select",
        str(trained / "run"),
        str(tmp_path / "candidates.extxyz"),
        "--out",
        str(tmp_path / "next.extxyz"),
    ]
    assert run([*arguments, "--n", "2", "--json"]) == 0
    output, table = capsys.readouterr()
    result = json.loads(output.splitlines()[-1])
    assert result["indices"][0] == 3
    assert 0 not in result["indices"]
    assert (result["n_candidates"], result["n_outside"]) == (4, 1)
    assert "left out: 1 of 4 candidates" in table
    first = result["selected"][0]
    assert first["largest_grade"] > first["limit"]
    assert first["n_outside"] >= 1
    assert "largest grade" in table
    written = read(tmp_path / "next.extxyz", ":")
    assert len(written) == 2
    np.testing.assert_allclose(written[0].positions, squeezed.positions, atol=1e-7)
    assert written[0].info["selected_from"].endswith("frame 3")
    assert run([*arguments, "--n", "1"]) == 2  # never overwrites unasked
    assert "--force" in capsys.readouterr().err
    assert run([*arguments, "--n", "5", "--only-outside", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["indices"] == [3]
    # Nothing outside: no empty file to label, nor that of the last selection.
    write(tmp_path / "candidates.extxyz", [frame.to_atoms() for frame in near])
    assert run([*arguments, "--n", "1", "--only-outside", "--force", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["selected"], result["file"]) == ([], None)
    assert not (tmp_path / "next.extxyz").exists()
    for same in (tmp_path / "candidates.extxyz", tmp_path / "." / "candidates.extxyz"):
        assert run(["select", *arguments[1:3], "--out", str(same), "--n", "1", "--only-outside", "--force"]) == 2
        assert "read and written at once" in capsys.readouterr().err
    assert (tmp_path / "candidates.extxyz").exists()
    arguments[arguments.index("--out") + 1] = str(tmp_path / "next.dat")
    assert run([*arguments, "--n", "1"]) == 2
    assert "ends in .extxyz" in capsys.readouterr().err
