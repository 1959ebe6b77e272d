"""Balanced readouts: the counted dimension, the smallest readout, derivatives, files and measured training."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff import ForceField
from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.model.config import parse_config
from qiskit_qff.training.balance import (
    HALF,
    BalancedObjective,
    balanced_angles,
    balancing_slopes,
    minimise_balanced,
    readout_vector,
    reduced_parameters,
)
from qiskit_qff.training.measured.optimizers import OptimizerSettings
from qiskit_qff.training.measured.run import MeasuredSettings, train_measured
from qiskit_qff.training.solver import SolverSettings
from qiskit_qff.training.trainer import fit, prepare

CONFIG = parse_config(
    {
        "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
        "circuit": {"n_qubits": 3},
        "optimizer": {"restarts": 2, "max_iterations": 30},
        "max_parameters": 13,
    },
    where="test",
)
QUICK = SolverSettings(restarts=2, max_iterations=30)


def silent(*_):
    """Report nothing."""


@pytest.fixture(scope="module")
def prepared(frames):
    return prepare(frames[:8], CONFIG)


@pytest.fixture(scope="module")
def field(prepared):
    return fit(prepared, rng=np.random.default_rng(0)).force_field


@given(st.integers(2, 13), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_balanced_angles(n_amplitudes, seed):
    """Half of the square is the constant amplitude's, the direction of the linear terms stays, derivatives agree."""
    rng = np.random.default_rng(seed)
    spec = AnsatzSpec(family="ry_tree", readout="rank_one", n_amplitudes=n_amplitudes, layers=0, n_readouts=1)
    before = rng.normal(size=n_amplitudes)
    before[0] = abs(before[0])
    theta = angles_for_vector(spec, before)
    np.testing.assert_allclose(readout_vector(spec, theta), before / np.linalg.norm(before), atol=1e-12)
    balanced = balanced_angles(spec, theta)
    after = readout_vector(spec, balanced)
    assert after[0] == pytest.approx(HALF)
    np.testing.assert_allclose(after[1:] * np.linalg.norm(before[1:]), before[1:] * HALF, atol=1e-12)
    np.testing.assert_allclose(readout_vector(spec, balanced_angles(spec, balanced)), after, atol=1e-12)
    slopes, step = balancing_slopes(spec, theta), 1e-6 * rng.normal(size=len(theta))
    change = readout_vector(spec, balanced_angles(spec, theta + step)) - readout_vector(
        spec, balanced_angles(spec, theta - step)
    )
    moved = readout_vector(spec, balanced + slopes @ step) - readout_vector(spec, balanced - slopes @ step)
    np.testing.assert_allclose(moved, change, atol=1e-9)


def test_derivatives(prepared):
    """Gradient and tangents against finite differences, shot noise included."""
    objective = prepared.objective
    assert objective.shots is not None
    assert objective.penalty == 0.0
    rng = np.random.default_rng(3)
    balanced = BalancedObjective(objective, rng.choice([-1.0, 1.0], len(objective.layout.specs)))
    point = rng.normal(size=balanced.n_terms + objective.layout.n_references)
    _, gradient, _ = balanced.quadratic_model(point)
    tangents = balanced.tangents(point)
    for k in rng.choice(len(point), 6, replace=False):
        step = np.zeros(len(point))
        step[k] = 1e-5
        slope = (balanced.loss(point + step) - balanced.loss(point - step)) / 4e-5
        assert gradient[k] == pytest.approx(slope, rel=1e-5, abs=1e-7 * np.abs(gradient).max())
        vectors = [objective.operator_vector(balanced.parameters(point + sign * step)) for sign in (1, -1)]
        moved = [objective.operator_vector(balanced.parameters(point) + sign * tangents @ step) for sign in (1, -1)]
        np.testing.assert_allclose(vectors[0] - vectors[1], moved[0] - moved[1], atol=1e-8)


def test_as_many_parameters_as_a_linear_model(prepared, field):
    """One per channel, and the reference energies: counted, and the rank of what the parameters can do."""
    layout = prepared.objective.layout
    features = sum(m.compression.n_features for m in field.models)
    assert field.n_trainable == layout.n_trainable == features + layout.n_references <= CONFIG.max_parameters
    assert layout.n_parameters == layout.n_trainable + len(layout.specs)
    ledger = field.ledger.to_dict()
    counted = ledger["angles"] + ledger["weights"] - ledger["tied"] + ledger["reference_energies"]
    assert counted == ledger["n_trainable"]
    balanced, reduced = reduced_parameters(prepared.objective, fit_parameters(prepared))
    point = reduced + 0.1 * np.random.default_rng(4).normal(size=len(reduced)) * np.abs(reduced).max()
    steps = 1e-5 * np.abs(reduced).max() * np.eye(len(reduced))
    vectors = [[prepared.objective.operator_vector(balanced.parameters(point + s * d)) for d in steps] for s in (1, -1)]
    changes = np.subtract(*vectors)
    assert np.linalg.matrix_rank(changes / np.linalg.norm(changes, axis=1, keepdims=True), tol=1e-7) == len(reduced)


def fit_parameters(prepared):
    runs = minimise_balanced(prepared.objective, QUICK, rng=np.random.default_rng(0), progress=silent)
    return runs[0].parameters


def test_no_smaller_readout_holds_these_terms(prepared):
    """The length of the readout equals that of its linear terms, which is the least."""
    parameters, layout = fit_parameters(prepared), prepared.objective.layout
    balanced, reduced = reduced_parameters(prepared.objective, parameters)
    np.testing.assert_allclose(balanced.parameters(reduced)[layout.all_weights], parameters[layout.all_weights])
    start = 0
    for spec, place in zip(layout.specs, layout.weights, strict=True):
        terms = reduced[start : start + spec.n_amplitudes - 1]
        start += spec.n_amplitudes - 1
        assert abs(parameters[place][0]) == pytest.approx(np.linalg.norm(terms))


def test_energies_are_those_of_the_formula(prepared, field):
    """An atom's energy is linear in its features, and a small square with the sign of the weight."""
    objective, parameters = prepared.objective, fit_parameters(prepared)
    assert objective.fit_loss(parameters) < 0.02 * objective.statistics.equations.constant
    rng = np.random.default_rng(1)
    for model in field.models:
        y = 0.1 * rng.normal(size=model.compression.n_features)
        x = np.concatenate([[1.0], y])
        matrix = model.operator_matrix()[: len(x), : len(x)]
        beta, weight = 2.0 * matrix[0, 1:], float(model.weights[0])
        along = float(beta @ y)
        assert x @ matrix @ x == pytest.approx(0.5 * weight + along + 0.5 * along**2 / weight)


def test_a_file_says_what_is_tied(field, tmp_path):
    """Counted alike after loading; what is not balanced is refused; changed weights are counted."""
    path = tmp_path / "model.json"
    field.save(path)
    again = ForceField.load(path)
    assert again.n_trainable == field.n_trainable
    assert all(m.balanced for m in again.models)
    with pytest.raises(ConfigError, match="balanced"):
        replace(field.models[0], theta=field.models[0].theta + 0.3)
    number = field.models[0].number
    moved = field.with_parameters(weights={number: 2.0 * field.models[0].weights})
    assert moved.n_trainable == field.n_trainable + 1


def test_measured_training_keeps_the_balance(prepared):
    """Adam lowers the loss, and what it finds is balanced."""
    objective = prepared.objective
    settings_ = MeasuredSettings(optimizer=OptimizerSettings(name="adam", steps=15), shots=None, candidates=2)
    evaluators = {spec.n_qubits: ExactEvaluator() for spec in objective.layout.specs}
    run = train_measured(
        objective, evaluators, settings_, start=None,
        rng=np.random.default_rng(0), shot_rng=np.random.default_rng(1),
    )  # fmt: skip
    assert run.final.loss < 0.9 * run.start.loss
    trained = prepared.force_field(run.parameters)
    assert trained.n_trainable == objective.layout.n_trainable


@pytest.mark.parametrize("circuit", [{"family": "brickwork_cz"}, {"readout": "rank_two"}, {"shared": True}])
def test_other_circuits_train_their_weights(circuit):
    """The default goes with the circuit; asking for what it cannot be is an error."""
    assert parse_config({"circuit": circuit}, where="test").circuit.readout_weights == "trained"
    with pytest.raises(ConfigError, match="balanced"):
        parse_config({"circuit": {**circuit, "readout_weights": "balanced"}}, where="test")
