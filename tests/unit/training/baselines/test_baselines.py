"""Baselines against independent implementations: dense least squares, scikit-learn, finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from qiskit_qff.errors import BudgetError
from qiskit_qff.model.config import parse_config
from qiskit_qff.training.baselines.atom_features import atom_features
from qiskit_qff.training.baselines.linear import ChannelRows, linear_sums
from qiskit_qff.training.baselines.low_rank import _Problem, fit_low_rank, low_rank_baseline
from qiskit_qff.training.baselines.perceptron import PerceptronLoss, PerceptronShape, perceptron_baseline
from qiskit_qff.training.baselines.suite import BASELINES, gather, select
from qiskit_qff.training.references import fit_references
from qiskit_qff.training.statistics import quadratic_statistics

CONFIG = {
    "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
    "circuit": {"n_qubits": 3},
    "max_parameters": 20,
}


def silent(stage, done, total):
    """Report nothing."""


@pytest.fixture(scope="module", params=[None, 2.0], ids=["forces", "stresses"])
def data(frames, request):
    loss = {"stress_scale_mev_per_ang3": request.param}
    return gather(frames, parse_config(CONFIG | {"loss": loss}, where="test"), progress=silent)


def test_linear_is_weighted_least_squares(data) -> None:
    maps = select(data, 8)
    source = ChannelRows({z: m.channels for z, m in maps.items()}, 4.0)
    sums = linear_sums(data.frames, source, data.species, weights=data.weights, progress=silent)
    coefficients, references, loss = sums.solve(ridge=0.0)
    blocks, labels, weights = [], [], []
    for frame in data.frames:
        energy, others = source(frame)
        counts, used = [np.count_nonzero(frame.numbers == z) for z in data.species], data.weights.n_rows(frame)
        blocks += [np.append(energy, counts)[None], np.pad(others[:used], ((0, 0), (0, len(counts))))]
        labels += [[frame.energy], data.weights.row_labels(frame)]
        weights += [[data.weights.energy_weight(frame.n_atoms)], data.weights.row_weights(frame)]
    design, label, weight = np.concatenate(blocks), np.concatenate(labels), np.concatenate(weights)
    dense = LinearRegression(fit_intercept=False).fit(design, label, sample_weight=weight)
    error = design @ np.concatenate([coefficients, references]) - label
    assert loss == pytest.approx(weight @ error**2 / len(data.frames), rel=1e-6)
    assert weight @ error**2 == pytest.approx(weight @ (dense.predict(design) - label) ** 2, rel=1e-6)
    np.testing.assert_allclose(coefficients, dense.coef_[: len(coefficients)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_quadratic(data, rank, rng) -> None:
    maps = select(data, 6)
    whole = {z: [m.n_features] for z, m in maps.items()}
    statistics = quadratic_statistics(data.frames, maps, whole, r_cut=4.0, weights=data.weights, progress=silent)
    problem = _Problem(statistics, rank)
    signs = np.sign(rng.normal(size=(2, rank)))
    point = rng.normal(size=6 * (1 + rank) + data.n_references)
    direction, step = rng.normal(size=len(point)), 1e-6
    there, back = (problem.residual(point + side * step * direction, signs) for side in (1, -1))
    slope = (there - back) / (2 * step)
    np.testing.assert_allclose(problem.jacobian(point, signs) @ direction, slope, atol=1e-6 * np.abs(slope).max())
    linear = fit_low_rank(statistics, 0, starts=1, rng=rng)
    fit = fit_low_rank(statistics, rank, starts=2, rng=rng)
    assert fit.loss < linear.loss
    assert np.linalg.matrix_rank(fit.forms[0][1:, 1:], tol=1e-9) <= rank
    model = low_rank_baseline("x", "x", fit, maps, data.repulsion, r_cut=4.0)
    assert model.ledger.n_trainable == len(point)
    assert mean_loss(model, data) == pytest.approx(fit.loss, rel=1e-2)  # apart from the Tikhonov term
    check_forces(model, data.frames[0], rng)


def test_network_gradient(data, rng) -> None:
    maps = select(data, 6)
    atoms = atom_features(data.frames, maps, r_cut=4.0, strained=data.weights.has_stress)
    shape = PerceptronShape(2, tuple(maps[z].n_features for z in data.species), n_references=1)
    loss = PerceptronLoss(
        data.frames, atoms, shape, weights=data.weights, references=fit_references(data.frames, data.species)
    )
    point, direction, step = rng.normal(size=shape.n_parameters), rng.normal(size=shape.n_parameters), 1e-5
    slope = (loss(point + step * direction)[0] - loss(point - step * direction)[0]) / (2 * step)
    assert loss(point)[1] @ direction == pytest.approx(slope, rel=1e-5)
    references = fit_references(data.frames, data.species)
    model = perceptron_baseline(shape, point, maps, data.repulsion, references=references, r_cut=4.0)
    assert mean_loss(model, data) == pytest.approx(loss(point)[0], rel=1e-5)


def test_every_baseline_keeps_to_the_budget_and_predicts_gradients(data, rng) -> None:
    losses = {}
    for name, fit in BASELINES.items():
        model = fit(data, np.random.default_rng(0), silent)
        assert model.name == name
        assert data.n_references <= model.ledger.n_trainable <= 20
        assert model.ledger.to_dict()["n_trainable"] == model.ledger.n_trainable
        check_forces(model, data.frames[1], rng)
        losses[name] = mean_loss(model, data)
    # As many channels, found by two searches that differ in how many an element may have at most.
    assert losses["linear_selected"] < 1.2 * losses["linear_same_channels"]
    assert all(loss < 0.2 * losses["mean"] for name, loss in losses.items() if name != "mean")


def test_a_budget_too_small_is_refused(frames) -> None:
    config = parse_config({**CONFIG, "max_parameters": 8}, where="test")
    data = gather(frames, config, progress=silent)
    with pytest.raises(BudgetError, match="max_parameters is 8"):
        BASELINES["mlp"](data, np.random.default_rng(0), silent)


def virial(model, frame):
    """Six components of dE/dstrain, by energies of strained cells."""
    found, step = [], 1e-5
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] = step
        there, back = (
            model.predict(replace(frame, positions=frame.positions @ turn, cell=frame.cell @ turn))[0]
            for turn in (np.eye(3) + strain, np.eye(3) - strain)
        )
        found.append((there - back) / (2 * step))
    return np.array(found)


def mean_loss(model, data):
    total = 0.0
    for frame in data.frames:
        energy, forces = model.predict(frame)
        if data.weights.has_stress(frame):
            error = virial(model, frame) - data.weights.row_labels(frame)[-6:]
            total += data.weights.row_weights(frame)[-6:] @ error**2
        error = forces.ravel() - data.weights.force_labels(frame)
        total += data.weights.force_weights(frame.numbers) @ error**2
        total += data.weights.energy_weight(frame.n_atoms) * (energy - frame.energy) ** 2
    return total / len(data.frames)


def check_forces(model, frame, rng):
    direction, step = rng.normal(size=frame.positions.shape), 4e-4

    def rise(width):
        there, back = (replace(frame, positions=frame.positions + side * width * direction) for side in (1, -1))
        return model.predict(there)[0] - model.predict(back)[0]

    # Fourth order, so that the step may be wide.
    slope = (8.0 * rise(step) - rise(2.0 * step)) / (12.0 * step)
    forces = model.predict(frame)[1]
    if not forces.any():
        return
    # In a quadratic form fitted to so few frames large terms cancel: its energies are rounded to some 1e-7 eV.
    loose = 1e-3 if model.name.startswith("quadratic") else 3e-5
    assert np.vdot(forces, direction) == pytest.approx(-slope, rel=loose, abs=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)
