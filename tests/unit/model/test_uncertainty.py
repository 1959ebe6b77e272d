"""The posterior: standard deviations of energies and forces, extrapolation grades, and how well errors are covered."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read
from contracts.force_field.quantum_model import labelled_frames
from fitting import prepare

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Deviations, coverage, cross_checked_coverage
from qiskit_qff.simulation.calculator import UNCERTAINTIES, QFFCalculator
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.trainer import linear_covariance


@pytest.fixture(scope="module")
def field(trained):
    return ForceField.load(trained / "run" / "model.json")


@pytest.fixture(scope="module")
def estimator(field):
    return field.uncertainty()


@pytest.fixture(scope="module")
def training_frames(trained):
    chosen = json.loads((trained / "run" / "metrics.json").read_text())["train_frames"]
    frames = read(trained / "data.extxyz", ":")
    return [Frame.from_atoms(frames[k]) for k in chosen]


def strained(frame, size):
    return replace(frame, positions=size * frame.positions, cell=size * frame.cell)


# Training


SMALL = {
    "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1},
    "loss": {"shots": None},
    "max_parameters": 20,
}


def test_the_covariance_is_what_the_loss_leaves_open(rng):
    """Coefficients drawn from it raise the loss by one unit each on average, those of reference energies included."""
    objective = prepare(labelled_frames(), parse_config(SMALL | {"max_parameters": 12}, where="test")).objective
    statistics = objective.statistics
    covariance = linear_covariance(statistics)
    draws = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=4000, method="eigh")
    n_features = len(covariance) - len(statistics.species)
    changes = np.zeros((len(draws), len(statistics.equations.moment)))
    place = 0
    for start, size in zip(statistics.starts, statistics.sizes, strict=False):
        changes[:, start + 1 : start + size] = 0.5 * draws[:, place : place + size - 1]  # E = 2 M_0a y_a
        place += size - 1
    changes[:, statistics.starts[-1] :] = draws[:, n_features:] @ statistics.references.directions
    rise = np.einsum("ki,ij,kj->k", changes, statistics.equations.gram, changes).mean()
    assert rise == pytest.approx(n_features + statistics.references.count, rel=0.05)


def test_the_edge_holds_the_training_atoms(estimator, training_frames):
    graded = np.concatenate([estimator.grade(frame).values for frame in training_frames])
    assert (graded > 1.0).sum() <= len(estimator.models)  # the 99.9 % quantile of few atoms is near the largest
    assert graded.max() < estimator.limit
    features = [estimator.features(*estimator.surroundings(frame)) for frame in training_frames]
    every = [np.concatenate(own) for own in zip(*features, strict=True)]
    posterior = estimator.posterior
    np.testing.assert_array_equal(posterior.counts, [len(own) for own in every])
    for own, block, directions in zip(every, estimator.blocks, posterior.directions, strict=True):
        along = own @ directions.T
        variances = along.T @ along / len(along)
        np.testing.assert_allclose(variances, np.diag(np.diag(variances)), atol=1e-8)
        assert np.diag(variances).max() == pytest.approx(1.0)
        assert (along >= posterior.reach[0, block] - 1e-9).all()
        assert (along <= posterior.reach[1, block] + 1e-9).all()


# Evaluation


def test_force_deviations_are_those_of_the_derivative_of_the_energy(estimator, training_frames):
    """A change of the coefficients changes energies and, as their slope, forces: by finite differences of features."""
    frame, step = training_frames[0], 1e-4
    posterior = replace(estimator.posterior, noise=1.0, factor=1.0)
    size = posterior.reach.shape[1]

    def sums(moved):
        return np.concatenate([own.sum(axis=0) for own in estimator.features(*estimator.surroundings(moved))])

    slopes = []
    for axis in range(3):
        sides = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[2, axis] += sign * step
            sides.append(sums(replace(frame, positions=positions)))
        slopes.append((sides[0] - sides[1]) / (2 * step))
    slopes = np.array(slopes)
    variance = np.einsum("xa,ab,xb->x", slopes, posterior.covariance[:size, :size], slopes).mean()
    found = replace(estimator, posterior=posterior).frame(frame)
    assert found.force_std[2] == pytest.approx(np.sqrt(variance), rel=1e-4)
    counts = [np.count_nonzero(frame.numbers == z) for z in estimator.species]
    row = np.concatenate([sums(frame), counts])
    assert found.energy_std == pytest.approx(np.sqrt(row @ posterior.covariance @ row), rel=1e-6)


def test_rotation_order_and_supercells_do_not_matter(estimator, training_frames, rng):
    frame = training_frames[0]
    before = estimator.frame(frame)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = replace(frame, positions=frame.positions @ turn.T + rng.normal(size=3), cell=frame.cell @ turn.T)
    order = rng.permutation(frame.n_atoms)
    shuffled = Frame(frame.numbers[order], frame.positions[order], frame.cell, frame.pbc)
    repeated = Frame.from_atoms(frame.to_atoms() * (2, 1, 1))
    for other, places in ((turned, slice(None)), (shuffled, order)):
        found = estimator.frame(other)
        assert found.energy_std == pytest.approx(before.energy_std, rel=1e-7)
        np.testing.assert_allclose(found.force_std, before.force_std[places], rtol=1e-7)
        np.testing.assert_allclose(found.grades.values, before.grades.values[places], rtol=1e-7)
    np.testing.assert_allclose(estimator.grade(repeated).values, np.tile(before.grades.values, 2), rtol=1e-7)


def test_both_grow_outside_the_training_data(estimator, training_frames):
    frame = training_frames[0]
    found = [estimator.frame(strained(frame, size)) for size in (1.0, 0.94, 0.88, 0.82)]
    for values in (
        [u.grades.values.max() for u in found],
        [u.energy_std for u in found],
        [u.force_std.mean() for u in found],
    ):
        assert values == sorted(values)
        assert values[-1] > 2.0 * values[0]
    assert found[-1].grades.outside.any()


def test_the_calculator_gives_the_same_numbers_where_asked(field, estimator, training_frames):
    frame, atoms = training_frames[0], training_frames[0].to_atoms()
    wanted = estimator.frame(frame)
    calculator = QFFCalculator(field)
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert set(UNCERTAINTIES).isdisjoint(calculator.results)
    np.testing.assert_allclose(calculator.get_property("force_std", atoms), wanted.force_std, rtol=1e-9)
    assert calculator.results["energy_std"] == pytest.approx(wanted.energy_std, rel=1e-9)
    np.testing.assert_allclose(calculator.results["extrapolation_grade"], wanted.grades.values, rtol=1e-9)
    assert calculator.results["energy"] == energy
    atoms.calc = QFFCalculator(field, uncertainty=True)
    for _ in range(2):
        atoms.rattle(0.01)
        atoms.get_forces()
        moved = estimator.frame(Frame.from_atoms(atoms))
        np.testing.assert_allclose(atoms.calc.results["force_std"], moved.force_std, rtol=1e-8)
    atoms.calc = QFFCalculator(replace(field, posterior=None))
    with pytest.raises(ConfigError, match="train it again"):
        atoms.calc.get_property("energy_std", atoms)


# Coverage


def made_up(rng, *, n_frames=400, n_atoms=10, truth=3.0):
    """Normal errors that are ``truth`` times the expected ones."""
    sizes = rng.uniform(0.5, 2.0, n_frames * n_atoms)
    energies = rng.uniform(0.5, 2.0, n_frames)
    return Deviations(
        energies=energies,
        energy_errors=truth * energies * rng.normal(size=n_frames),
        forces=sizes,
        force_errors=truth * sizes[:, None] * rng.normal(size=(len(sizes), 3)),
        frame_of=np.repeat(np.arange(n_frames), n_atoms),
        largest_grades=np.ones(n_frames),
    )


def test_normal_errors_are_covered_after_scaling(rng):
    deviations = made_up(rng)
    assert deviations.factor == pytest.approx(3.0, rel=0.02)
    found = cross_checked_coverage(deviations)
    np.testing.assert_allclose(found["forces"], found["nominal"], atol=0.015)
    np.testing.assert_allclose(found["energies"], found["nominal"], atol=0.06)
    assert found["force_rank_correlation"] > 0.3
    assert (coverage(deviations)["forces"] < found["nominal"] - 0.05).all()
