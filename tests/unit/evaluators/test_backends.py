"""Backends by name, the qubit cut-out, and mitigation presets."""

import numpy as np
import pytest
from circuits import loaded
from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliLindbladMap, SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeTorino

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.mitigation import device_noise_model, estimator_options
from qiskit_qff.evaluators.tiling import CutOutBackend, place


@pytest.fixture(scope="module")
def torino():
    return FakeTorino()


def test_devices_with_gates_of_the_past_are_refused(rng):
    with pytest.raises(BackendError, match="fake_kingston"):
        build_evaluator(Settings("fake_essex", 100), [2], rng=rng)


def test_decoupling_is_run_where_gates_have_durations(rng):
    for name in ("fake_torino", "fake_jakarta"):
        evaluator = build_evaluator(Settings(name, 10, dynamical_decoupling=True), [2], rng=rng)
        assert evaluator.estimator.options.dynamical_decoupling.enable


def tree_request(n_amplitudes):
    """A tree behind the loader of some random states."""
    rng = np.random.default_rng(0)
    program = build_program(AnsatzSpec("ry_tree", "rank_one", n_amplitudes))
    states = rng.normal(size=(6, n_amplitudes))
    return loaded(program, states, rng.normal(size=program.n_angles))


def deviation(name, request, mitigation):
    """Mean error of measured values."""
    n_qubits, rng = request.task.circuit.num_qubits, np.random.default_rng(0)
    evaluator = build_evaluator(Settings(name, 8000, mitigation=mitigation), [n_qubits], rng=rng)
    (found,), (exact,) = evaluator.evaluate([request]), ExactEvaluator().evaluate([request])
    return np.abs(found.values - exact.values).mean()


def test_mitigation_lowers_the_error_of_a_noisy_device():
    request = tree_request(4)
    plain = deviation("fake_jakarta", request, "none")
    for preset in ("readout", "zne", "pea", "pec"):
        assert deviation("fake_jakarta", request, preset) < (0.65 if preset == "pea" else 0.6) * plain, preset


def test_layout_pass_manager_options_and_noise_model_are_the_users(rng):
    """Qubits of a real layout, a pass manager of level 0, two noise factors, and PEC told that there is no noise."""
    seen = []

    def pass_manager(backend, layout):
        seen.append((backend.num_qubits, layout))
        return generate_preset_pass_manager(0, backend)

    changes = {"resilience": {"zne": {"noise_factors": [1, 2], "extrapolator": "linear"}}}
    settings = Settings("fake_kingston", 10, "zne", options=changes)
    evaluator = build_evaluator(settings, [2], rng=rng, layout=[[40, 41]], pass_manager=pass_manager)
    assert evaluator.tiles[0].qubits == (40, 41)
    assert evaluator.transpiled(tree_request(4).task).num_qubits == 2
    assert seen == [(2, None)]  # a cut-out has no other qubits
    assert list(evaluator.estimator.options.resilience.zne.noise_factors) == [1, 2]
    assert evaluator.timing.mitigation_factor == 2.0
    for wrong, advice in (
        ({"resilience": {"zne": {"noise_factor": 3}}}, "noise_factors"), ({"dd": 1}, "known keys"),
        ({"resilience_level": 2}, "--mitigation"), ({"default_shots": 5}, "--shots"),
        ({"resilience": {"pec": {"max_overhead": np.inf}}}, "finite"), ({"experimental": {"token": "abc"}}, "token"),
        ({"resilience": {"zne_mitigation": True, "zne": {"extrapolator": "double_exponential"}}}, "at least 4"),
        ({"resilience": {"zne_mitigation": True, "pec_mitigation": True}}, "either"),
        ({"twirling": {"num_randomizations": 4, "shots_per_randomization": 64}}, "one of"),
        ({"noise_learner": {}}, "pea or pec"), ({"twirling": 5}, "dictionary"),
        ({"resilience": {"zne_mitigation": True, "zne": {"amplifier": "pea"}},
          "noise_learner": {"max_execution_time": 9}}, "remove max"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=advice):
            build_evaluator(Settings("fake_kingston", 10, options=wrong), [2], rng=rng)
    with pytest.raises(ConfigError, match="connected"):
        build_evaluator(settings, [2], rng=rng, layout=[[40, 70]])
    found = []

    def noise_model(layers, circuit, backend):
        found.append((len(layers), circuit.num_qubits, backend.num_qubits))
        return [(layer, PauliLindbladMap.identity(layer.operation.num_qubits)) for layer in layers]

    evaluator = build_evaluator(Settings("fake_kingston", 64, "pec"), [2], rng=rng, noise_model=noise_model)
    assert np.isfinite(evaluator.evaluate([tree_request(4)])[0].values).all()
    assert evaluator.noise_origin == "given by the user"
    assert found == [(1, 2, 2)]


@pytest.mark.parametrize("mitigation", ["readout", "zne", "pea", "pec"])
def test_circuits_of_one_qubit_are_mitigated(mitigation):
    assert deviation("fake_torino", tree_request(2), mitigation) < 0.02


def test_derived_noise_sits_on_the_qubits_of_its_gate(torino):
    small = CutOutBackend(torino, place(torino.target, [3])[0])
    circuit = QuantumCircuit(3)
    circuit.sx(range(3))
    circuit.cz(0, 1)
    circuit.sx(range(3))
    circuit.cz(2, 1)
    estimator = Estimator(mode=AerSimulator.from_backend(small), options=estimator_options("pec"))
    layers = estimator.find_unique_layers([(circuit, SparsePauliOp("ZZZ"))])
    found = set()
    for layer, noise in device_noise_model(layers, circuit, small):
        order = sorted(circuit.find_bit(qubit).index for qubit in layer.qubits)
        gate = next(entry for entry in layer.operation.body.data if entry.operation.name == "cz")
        expected = {
            circuit.find_bit(layer.qubits[layer.operation.body.find_bit(bit).index]).index for bit in gate.qubits
        }
        touched = {order[index] for _, places, _ in noise.to_sparse_list() for index in places}
        assert touched == expected
        error = (
            small.target["cz"].get(tuple(sorted(expected))) or small.target["cz"][tuple(sorted(expected)[::-1])]
        ).error
        assert noise.rates.sum() == pytest.approx(-15 / 16 * np.log1p(-4 * error / 3))
        found.add(frozenset(expected))
    assert found == {frozenset({0, 1}), frozenset({1, 2})}
