"""Balanced readouts: the counted dimension, the smallest readout, derivatives, shot noise, files and training."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import DESCRIPTOR, prepare
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff import ForceField
from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import parse_config
from qiskit_qff.training.objective import (
    HALF,
    BalancedObjective,
    BalancedRegister,
    balanced_angles,
    balancing_slopes,
    readout_vector,
)
from qiskit_qff.training.trainer import fit

CONFIG = parse_config(
    {
        "descriptor": DESCRIPTOR,
        "circuit": {"n_qubits": 2},
        "max_parameters": 14,
    },
    where="test",
)


@pytest.fixture(scope="module")
def prepared(frames):
    """Registers of three features and, for what is left of each species, of fewer."""
    return prepare(frames[:8], CONFIG)


@pytest.fixture(scope="module")
def field(prepared):
    return fit(prepared, rng=np.random.default_rng(0)).force_field


@given(st.integers(2, 13), st.integers(0, 10_000), st.data())
@settings(max_examples=20, deadline=None)
def test_balanced_angles(n_amplitudes, seed, data):
    """Half of the square is the constant amplitude's, the direction of the linear terms stays, derivatives agree."""
    size = data.draw(st.integers(2, n_amplitudes))
    rng = np.random.default_rng(seed)
    spec = AnsatzSpec(family="ry_tree", readout="rank_one", n_amplitudes=n_amplitudes)
    before = rng.normal(size=n_amplitudes)
    before[0] = abs(before[0])
    theta = angles_for_vector(spec, before)
    np.testing.assert_allclose(readout_vector(spec, theta), before / np.linalg.norm(before), atol=1e-12)
    balanced = balanced_angles(spec, theta, size)
    after = readout_vector(spec, balanced)
    assert after[0] == pytest.approx(HALF)
    np.testing.assert_allclose(after[1:size] * np.linalg.norm(before[1:size]), before[1:size] * HALF, atol=1e-12)
    np.testing.assert_allclose(after[size:], 0.0, atol=1e-12)
    np.testing.assert_allclose(readout_vector(spec, balanced_angles(spec, balanced, size)), after, atol=1e-12)
    slopes, step = balancing_slopes(spec, theta, size), 1e-6 * rng.normal(size=len(theta))
    there, back = (readout_vector(spec, balanced_angles(spec, theta + side * step, size)) for side in (1, -1))
    moved = readout_vector(spec, balanced + slopes @ step) - readout_vector(spec, balanced - slopes @ step)
    np.testing.assert_allclose(moved, there - back, atol=1e-9)


def random_register(rng, size, n_qubits):
    """A register on random statistics, its Gram matrix, and linear terms."""
    rows = rng.normal(size=(60, size * (size + 1) // 2))
    gram = rows.T @ rows / 60
    return BalancedRegister.of(gram, size, n_qubits), gram, rng.normal(size=size - 1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("size", "n_qubits"), [(2, 1), (4, 2), (3, 2), (8, 3), (6, 3)])
def test_derivatives_of_a_register(size, n_qubits, sign, rng):
    """M, and the gradient of its shot noise, against finite differences; M is that of the balanced circuit."""
    register, _, beta = random_register(rng, size, n_qubits)
    vector = HALF * np.append(1.0, sign * beta / np.linalg.norm(beta))
    matrix = sign * np.linalg.norm(beta) * np.outer(vector, vector)
    triangle = matrix[np.triu_indices(size)]
    np.testing.assert_allclose(register.triangle(beta, sign), np.append(0.0, triangle[1:]), atol=1e-13)
    slopes = register.slopes(beta, sign)
    _, gradient, curvature = register.shot_noise(beta, sign)
    for k, step in enumerate(1e-6 * np.eye(size - 1)):
        there, back = (register.triangle(beta + side * step, sign) for side in (1, -1))
        np.testing.assert_allclose(slopes[:, k], (there - back) / 2e-6, atol=1e-8)
        there, back = (register.shot_noise(beta + side * step, sign)[0] for side in (1, -1))
        assert 2.0 * gradient[k] == pytest.approx((there - back) / 2e-6, rel=1e-6, abs=1e-8)
    assert np.linalg.eigvalsh(curvature)[0] > -1e-12 * np.trace(curvature)


def bases(n_qubits):
    """Rotations into the n + 1 settings: Z on all qubits, and X on one of them with Z on the others."""
    hadamard = np.array([[1.0, 1.0], [1.0, -1.0]]) * HALF
    turned = [np.kron(np.kron(np.eye(2 ** (n_qubits - 1 - k)), hadamard), np.eye(2**k)) for k in range(n_qubits)]
    return np.array([np.eye(2**n_qubits), *turned])


def fitted_state(shares, rotations, start, tangents):
    """The state by weighted least squares from the shares of outcomes, four Gauss-Newton steps from the true one."""
    amplitudes = rotations @ start
    seen = np.abs(amplitudes) > 1e-9
    weights = np.where(seen, 1.0 / np.where(seen, np.abs(amplitudes), 1.0), 0.0)
    state = start
    for _ in range(4):
        found = rotations @ state
        slopes = (2.0 * weights * found)[..., None] * (rotations @ tangents)
        residual = weights * (shares - found**2)
        step = np.linalg.lstsq(slopes.reshape(-1, tangents.shape[1]), residual.ravel(), rcond=1e-9)[0]
        state = state + tangents @ step
        state = state / np.linalg.norm(state)
    return state


@pytest.mark.parametrize(("size", "n_qubits"), [(2, 1), (2, 2), (4, 2), (3, 2), (8, 3), (6, 3)])
def test_shot_noise_is_the_mean_rise_of_the_loss(size, n_qubits):
    """Counts are drawn in n + 1 settings and the state is fitted to them; what M then adds to the loss is averaged."""
    rng, shots = np.random.default_rng(11), 4000
    register, gram, beta = random_register(rng, size, n_qubits)
    beta = np.where(np.abs(beta) < 0.3, 0.3, beta)  # every outcome is seen often
    length, upper = np.linalg.norm(beta), np.triu_indices(size)
    state = np.zeros(2**n_qubits)
    state[0], state[1:size] = HALF, HALF * beta / length
    tangents = np.linalg.svd(state[None])[2][1:].T
    rotations, rises = bases(n_qubits), []
    for _ in range(1500):
        shares = (rotations @ state) ** 2
        counts = np.array([rng.multinomial(shots, share / share.sum()) for share in shares])
        found = fitted_state(counts / shots, rotations, state, tangents)[:size]
        error = length * (np.outer(found, found) - np.outer(state[:size], state[:size]))[upper]
        error[0] = 0.0  # M_00 is left to the reference energy
        rises.append(error @ gram @ error)
    assert np.mean(rises) == pytest.approx(register.shot_noise(beta, 1.0)[0] / shots, rel=0.1)


def test_derivatives(prepared):
    """The closed forms are those of the circuits; the gradient is that of finite differences, noise included."""
    objective = prepared.objective
    assert objective.shots is not None
    rng = np.random.default_rng(3)
    balanced = BalancedObjective(objective, rng.choice([-1.0, 1.0], len(objective.layout.specs)))
    point = rng.normal(size=balanced.n_terms + objective.layout.n_references)
    vector = balanced.operator_vector(point)
    np.testing.assert_allclose(vector, objective.operator_vector(balanced.parameters(point)), atol=1e-12)
    value, gradient, _ = balanced.quadratic_model(point)
    assert value == pytest.approx(balanced.loss(point), rel=1e-12)
    assert balanced.loss(point) - objective.fit_loss(balanced.parameters(point)) == pytest.approx(
        balanced.shot_noise(point), rel=1e-6
    )
    for k in rng.choice(len(point), 6, replace=False):
        step = np.zeros(len(point))
        step[k] = 1e-5
        rise = (balanced.loss(point + step) - balanced.loss(point - step)) / 4e-5
        assert gradient[k] == pytest.approx(rise, rel=1e-5, abs=1e-7 * np.abs(gradient).max())


def test_a_file_says_what_is_tied(field, tmp_path):
    """Counted alike after loading; what is not balanced is refused; registers of their own weight count it."""
    path = tmp_path / "model.json"
    field.save(path)
    again = ForceField.load(path)
    assert again.n_trainable == field.n_trainable
    assert all(register.balanced for register in again.registers.values())
    key, register = next(iter(field.registers.items()))
    with pytest.raises(ConfigError, match="balanced"):
        replace(register, theta=register.theta + 0.3)
    freed = replace(register, weights=2.0 * register.weights, balanced=False)
    moved = field.with_registers({key: freed})
    assert freed.n_trainable == register.ansatz.n_angles + 1
    assert moved.n_trainable == field.n_trainable + freed.n_trainable - register.n_features
