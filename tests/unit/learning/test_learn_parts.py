"""The parts of active learning: dynamics that end in time, and the frames of it that are worth a label."""

from dataclasses import replace

import numpy as np
import pytest
from ase.io import write
from fitting import DESCRIPTOR, copper_gold, prepare, silent

from qiskit_qff.learning.config import DynamicsConfig, SelectConfig
from qiskit_qff.learning.dynamics import choose, explore, harvest, plan_runs
from qiskit_qff.model.config import parse_config
from qiskit_qff.simulation.extrapolation import EXTRAPOLATING
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.validation import check_structure
from qiskit_qff.training.trainer import fit

SMALL = {
    "descriptor": DESCRIPTOR,
    "circuit": {"n_qubits": 3},
    "max_parameters": 20,
}


def labelled(count, **options):
    return [Frame.from_atoms(atoms) for atoms in copper_gold(count, **options)]


@pytest.fixture(scope="module")
def few():
    return labelled(6, sigma=0.05)


@pytest.fixture(scope="module")
def field(few):
    config = parse_config(SMALL, where="test")
    return fit(prepare(few, config), rng=np.random.default_rng(0)).force_field


@pytest.fixture(scope="module")
def grader(field):
    return field.uncertainty()


def run(field, grader, frame, directory, *, break_at, temperature=300.0, timestep=2.0):
    config = DynamicsConfig(temperatures_k=(temperature,), time_ps=0.2 * timestep, timestep_fs=timestep, interval=2)
    ((_, start, settings),) = plan_runs(config, [frame], round_=0, seed=0)
    return explore(start, settings, field, grader, directory, model_digest="m", break_at=break_at, progress=silent)


def test_dynamics_end_where_a_grade_is_too_far_and_keep_what_came_before(field, grader, few, tmp_path):
    outcome = run(field, grader, few[0], tmp_path / "run", break_at=1.5, temperature=4000.0)
    assert outcome["end"] == "outside"
    assert outcome["first_outside_ps"] <= outcome["time_ps"] < outcome["asked_ps"] == 0.4
    assert outcome["largest_ratio"] > 1.5
    kept = read_frames(tmp_path / "run" / EXTRAPOLATING)
    ratios = [(g := grader.grade(frame)).values[g.worst] / g.limit for frame in kept]
    assert ratios[0] > 1.0
    assert all(1.0 < ratio <= 1.5 for ratio in ratios[1:])
    assert kept[0].tags["time_fs"] == pytest.approx(1e3 * outcome["first_outside_ps"])
    before = (tmp_path / "run" / EXTRAPOLATING).read_bytes()
    assert run(field, grader, few[0], tmp_path / "run", break_at=1.5, temperature=4000.0) == outcome
    assert (tmp_path / "run" / EXTRAPOLATING).read_bytes() == before
    outside, inside = harvest(outcome, tmp_path / "run")
    assert [frame.energy for frame in (*outside, *inside)] == [None] * (len(kept) + len(inside))
    assert all(0.0 < frame.tags["time_fs"] < kept[0].tags["time_fs"] for frame in inside)


def test_frames_that_no_structure_could_be_are_refused_and_the_last_good_one_stands_in(few, tmp_path):
    positions = few[0].positions.copy()
    positions[1] = positions[0] + [0.9, 0.0, 0.0]
    close = few[0].to_atoms()
    close.positions = positions
    close.calc = None
    good = few[1].to_atoms()
    good.calc = None
    for k, atoms in enumerate((close, good)):
        atoms.info.update(step=10 * k, time_fs=20.0 * (k + 1), temperature_k=310.0)
    assert any(check_structure(Frame.from_atoms(close)))
    outcome = {"end": "outside", "first_outside_ps": 0.05}
    write(tmp_path / EXTRAPOLATING, [close, good], format="extxyz")
    (found,), _ = harvest(outcome, tmp_path)
    assert np.allclose(found.positions, good.positions)
    write(tmp_path / EXTRAPOLATING, [close], format="extxyz")
    write(tmp_path / "trajectory.extxyz", [close, good], format="extxyz")
    (found,), inside = harvest(outcome, tmp_path)
    assert inside == []
    assert np.allclose(found.positions, good.positions)


def test_the_choice_takes_what_is_new_once_and_keeps_to_its_budget(grader, few):
    far, near = ([replace(frame, tags={"learn_run": "a"}) for frame in frames] for frames in (
        [*labelled(3, sigma=0.25, seed=3), few[0]], labelled(3, sigma=0.05, seed=4)
    ))  # fmt: skip

    def chosen(per_round=9, held_out=9, budget=99):
        config = SelectConfig(per_round=per_round, held_out=held_out)
        return choose([*far, far[0]], near, grader, config, round_=2, budget=budget, known=set())

    everything, n_candidates = chosen()
    assert n_candidates == 4
    assert [frame.tags["learn_role"] for frame in everything] == ["train"] * 4 + ["test"] * 3
    first = everything[0]
    assert any(np.allclose(first.positions, frame.positions) for frame in far[:3])  # not the one trained on
    assert (first.tags["learn_round"], first.source) == (2, "round-002-a")
    assert [len(chosen(per_round=4, budget=k)[0]) for k in (0, 1, 5)] == [0, 1, 5]
    assert [frame.tags["learn_role"] for frame in chosen(per_round=1, held_out=1)[0]] == ["train", "test"]
