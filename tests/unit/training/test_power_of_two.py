"""Readout weights that are powers of two: chosen, not fitted, everywhere that weights are counted or moved."""

import json
from dataclasses import replace

import numpy as np
import pytest

from qiskit_qff.errors import ConfigError, ModelFileError
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.uncertainty import Committee
from qiskit_qff.training.measured.loss import MeasuredLoss
from qiskit_qff.training.measured.start import prepare_start
from qiskit_qff.training.power_of_two import _reweighted, power_of_two_weights, rounded
from qiskit_qff.training.solver import linear_start, solve_weights
from qiskit_qff.training.trainer import fit, prepare

CONFIG = {
    "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
    "circuit": {"n_qubits": 3, "readout_weights": "power_of_two"},
    "optimizer": {"restarts": 2, "max_iterations": 30},
    "max_parameters": 13,
}


def silent(*_):
    """Report nothing."""


def configured(**changes):
    return parse_config({**CONFIG, **changes}, where="test")


@pytest.fixture(scope="module")
def prepared(frames):
    return prepare(frames[:8], configured())


@pytest.fixture(scope="module")
def result(prepared):
    return fit(prepared, rng=np.random.default_rng(0))


def powers(weights):
    return np.array_equal(rounded(weights), weights)


def test_budget_goes_to_channels(frames, prepared, result):
    trained = prepare(frames[:8], configured(circuit={"n_qubits": 3, "readout_weights": "trained"}))
    more, fewer = (int(p.objective.statistics.sizes.sum()) - 2 for p in (prepared, trained))
    assert (more, fewer) == (12, 10)
    ledger = result.force_field.ledger.to_dict()
    assert ledger["weights"] == 0
    assert ledger["n_trainable"] == result.force_field.n_trainable == 13
    assert ledger["not_trained"]["readout_scales_powers_of_two"] == 2
    assert all(powers(w) for w in result.force_field.weights.values())


def test_ledger_counts_the_independent_numbers(frames, prepared, rng):
    layout = prepared.objective.layout
    parameters = rng.normal(0.0, 0.5, layout.n_parameters)
    parameters[layout.all_weights] = [4.0, -2.0]
    assert prepared.force_field(parameters).n_trainable == layout.n_trainable == len(layout.free)

    def predictions(values):
        own = prepared.force_field(values)
        return np.concatenate([np.append(p.forces.ravel(), p.energy) for p in map(own.predict, frames[:8])])

    step, units = 1e-5, np.eye(len(parameters))[layout.free]
    slopes = np.array(
        [(predictions(parameters + step * u) - predictions(parameters - step * u)) / (2 * step) for u in units]
    )
    scaled = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    assert np.linalg.matrix_rank(scaled, tol=1e-7) == layout.n_trainable


def test_every_restart_keeps_weights_and_lowers_the_loss(result):
    for run in result.restarts:
        assert np.all(np.diff(run.losses) < 0)
        assert powers(run.parameters[-3:-1])


def test_slopes_are_those_of_what_is_trained(prepared, rng):
    objective = prepared.objective
    free = objective.layout.free
    parameters = rng.normal(0.0, 0.5, objective.layout.n_parameters)
    parameters[objective.layout.all_weights] = [4.0, -2.0]
    every = objective.with_trained_weights().quadratic_model(parameters)
    own = objective.quadratic_model(parameters)
    assert own[0] == every[0]
    np.testing.assert_array_equal(own[1][free], every[1][free])
    np.testing.assert_array_equal(own[2][np.ix_(free, free)], every[2][np.ix_(free, free)])
    assert not own[1][objective.layout.all_weights].any()
    assert not own[2][objective.layout.all_weights].any()


def test_another_weight_keeps_the_linear_terms(prepared):
    objective = prepared.objective
    layout, sizes = objective.layout, objective.statistics.sizes
    start = linear_start(objective.with_trained_weights())
    larger = start
    for s in range(2):
        larger = _reweighted(objective, larger, s, 8.0 * float(start[layout.weights[s]][0]))
    vectors = [objective.operator_vector(p) for p in (start, larger)]
    for first, size in zip(objective.statistics.feature_start, sizes, strict=False):
        row = slice(int(first) + 1, int(first) + int(size))
        np.testing.assert_allclose(vectors[0][row], vectors[1][row], rtol=1e-9, atol=1e-12)
    # With ever larger weights only the linear terms are left: that loss is the linear model's.
    huge = start
    for s in range(2):
        huge = _reweighted(objective, huge, s, 1e7)
    assert objective.fit_loss(solve_weights(objective, huge)) == pytest.approx(objective.linear_solution()[0], rel=1e-3)


def test_file_and_committee(frames, result, tmp_path):
    field = result.force_field
    field.save(tmp_path / "model.json")
    again = ForceField.load(tmp_path / "model.json")
    assert again.ledger == field.ledger
    assert not any(m.spread.weights.any() for m in field.models)
    assert (Committee.of(again).frame(frames[9]).forces > 0.0).all()
    number = field.species[0]
    assert again.with_parameters(theta={number: field.theta[number] + 0.1}).n_trainable == field.n_trainable
    assert again.with_parameters(weights={number: np.array([1.3])}).n_trainable == field.n_trainable + 1
    document = json.loads((tmp_path / "model.json").read_text())
    document["species"][0]["weights"] = [1.3]
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match="powers of two"):
        ForceField.load(tmp_path / "bad.json")
    # A file without the entry has fitted weights.
    for entry in document["species"]:
        del entry["chosen_weights"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert ForceField.load(tmp_path / "old.json").n_trainable == field.n_trainable + 2


@pytest.mark.parametrize("start", ["scratch", "exact", "model"])
def test_training_on_an_estimator_leaves_weights_alone(frames, result, tmp_path, rng, start):
    if start == "model":
        result.force_field.save(tmp_path / "model.json")
    words = str(tmp_path / "model.json") if start == "model" else start
    config = configured(
        estimator={"start": words}, optimizer={"restarts": 1, "max_iterations": 10}, loss={"shots": None}
    )
    begun, angles = prepare_start(frames[:8], config, rng=rng, progress=silent)
    objective = begun.objective
    chosen = objective.chosen_weights
    assert powers(chosen)
    layout = objective.layout
    if angles is None:
        np.testing.assert_array_equal(chosen, power_of_two_weights(objective))
        angles = rng.normal(0.0, 0.5, layout.n_angles)
    loss = MeasuredLoss(objective, {n: ExactEvaluator() for n in (1, 2, 3)})
    sample = loss.sample(angles)
    np.testing.assert_array_equal(sample.parameters[layout.all_weights], chosen)
    value, half, _ = objective.quadratic_model(sample.parameters)
    assert sample.loss == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(half[layout.references], 0.0, atol=1e-7)
    np.testing.assert_allclose(loss.slopes(sample).slopes, 2.0 * half[: layout.n_angles], atol=1e-8)
    assert begun.force_field(sample.parameters).n_trainable == 13


@pytest.mark.parametrize(
    "circuit", [{"readout": "rank_two"}, {"shared": True}, {"family": "brickwork_cz", "readout": "z_diagonal"}]
)
def test_other_readouts_are_refused(circuit):
    with pytest.raises(ConfigError, match="give 'trained'"):
        configured(circuit={**CONFIG["circuit"], **circuit})


def test_a_trained_model_is_not_taken_for_a_chosen_one(frames):
    field = fit(
        prepare(frames[:6], configured(circuit={"n_qubits": 3, "readout_weights": "trained"})),
        rng=np.random.default_rng(0),
    ).force_field
    assert field.ledger.to_dict()["not_trained"]["readout_scales_powers_of_two"] == 0
    assert "chosen_weights" not in field.models[0].to_dict()
    with pytest.raises(ConfigError, match="powers of two"):
        replace(field.models[0], chosen_weights=True)
