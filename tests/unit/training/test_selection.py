"""Selection of frames to label: what is far out comes first, and nothing comes twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read, write
from fitting import silent

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
    return grade_candidates(grader, frames, progress=silent)


def test_takes_what_is_outside_and_no_near_copies_of_it(grader, known, rng):
    squeezed, stretched, shaken = strained(known[0], 0.85), strained(known[1], 1.25), rattled(known[2], rng, 0.5)
    copies = [rattled(squeezed, rng, 1e-4) for _ in range(5)]
    frames = [*known, *copies, squeezed, stretched, shaken]
    chosen = select(graded(grader, frames), 4)
    kinds = ["known"] * len(known) + ["squeezed"] * 6 + ["stretched", "shaken"]
    found = [kinds[s.candidate.index] for s in chosen]
    assert set(found[:2]) == {"shaken", "squeezed"}
    assert "stretched" in found
    assert all(s.gain < 0.2 * chosen[1].gain for s in chosen[2:] if kinds[s.candidate.index] == "squeezed")


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


def test_command_writes_the_frames_it_names(trained, known, tmp_path, qff, rng):
    """Of two frames near known ones, one far from them and one that the model was trained on."""
    squeezed, near = strained(known[0], 0.85), [rattled(frame, rng, 0.01) for frame in known[:2]]
    candidates, out = tmp_path / "candidates.extxyz", tmp_path / "next.extxyz"
    write(candidates, [frame.to_atoms() for frame in [known[5], *near, squeezed]])
    arguments = ["select", trained / "run", candidates, "--out"]
    result, table = qff(*arguments, out, "--n", 2)
    assert result["indices"][0] == 3
    assert 0 not in result["indices"]
    assert (result["n_candidates"], result["n_outside"]) == (4, 1)
    assert "left out: 1 of 4 candidates" in table
    first = result["selected"][0]
    assert first["largest_grade"] > first["limit"]
    assert first["n_outside"] >= 1
    assert "largest grade" in table
    written = read(out, ":")
    assert len(written) == 2
    np.testing.assert_allclose(written[0].positions, squeezed.positions, atol=1e-7)
    assert written[0].info["selected_from"].endswith("frame 3")
    assert "--force" in qff(*arguments, out, "--n", 1, code=2)[1]  # never overwrites unasked
    for same in (candidates, tmp_path / "." / "candidates.extxyz"):
        assert "read and written at once" in qff(*arguments, same, "--n", 1, "--force", code=2)[1]
    assert candidates.exists()
    assert "ends in .extxyz" in qff(*arguments, tmp_path / "next.dat", "--n", 1, code=2)[1]
