"""Baselines against dense least squares, and forces against finite differences of energies."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import DESCRIPTOR, silent
from sklearn.linear_model import LinearRegression

from qiskit_qff.model.config import parse_config
from qiskit_qff.training.baselines import LINEAR, FeatureRows, fit_linear, gather

CONFIG = {
    "descriptor": DESCRIPTOR,
    "circuit": {"n_qubits": 3},
    "max_parameters": 20,
}


@pytest.fixture(scope="module", params=[None, 2.0], ids=["forces", "stresses"])
def data(frames, request):
    loss = {"stress_scale_mev_per_ang3": request.param}
    return gather(frames, parse_config(CONFIG | {"loss": loss}, where="test"), progress=silent)


def test_linear_is_weighted_least_squares(data) -> None:
    source = FeatureRows(data.maps, 4.0)
    coefficients, references, loss = fit_linear(data.frames, source, data, progress=silent, ridge=0.0)
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


@pytest.mark.parametrize("name", LINEAR)
def test_budget_and_forces(data, name, rng) -> None:
    model, frame = LINEAR[name](data, silent), data.frames[1]
    assert model.ledger()["n_trainable"] == model.n_trainable <= 20
    direction, step = rng.normal(size=frame.positions.shape), 4e-4

    def rise(width):
        there, back = (replace(frame, positions=frame.positions + side * width * direction) for side in (1, -1))
        return model.predict(there)[0] - model.predict(back)[0]

    # Fourth order, so that the step may be wide.
    slope = (8.0 * rise(step) - rise(2.0 * step)) / (12.0 * step)
    forces = model.predict(frame)[1]
    assert np.vdot(forces, direction) == pytest.approx(-slope, rel=3e-5, abs=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)
    assert np.abs(forces - frame.forces).mean() < 0.5 * np.abs(frame.forces).mean()
