"""Estimated costs: the executions that the runtime's Estimator really makes, and no atoms in ``operator``."""

from collections import Counter

import numpy as np
import pytest
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeTorino

from qiskit_qff.evaluators.mitigation import estimator_options, find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import TimingModel
from qiskit_qff.evaluators.tiling import TiledEvaluator, tile
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.model.quantum_cost import circuit_counts, quantum_costs
from qiskit_qff.structures.reading import read_frames

SHOTS = 32


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


def test_only_environment_depends_on_atoms_and_frames(field) -> None:
    small = circuit_counts(field, {29: 50, 79: 33}, n_frames=10)
    large = circuit_counts(field, {29: 3200, 79: 2112}, n_frames=600)
    assert small["density"] == large["density"]
    assert small["operator"] == large["operator"]
    assert small["operator"]["energy"] == small["operator"]["forces"] == 0
    assert small["operator"]["once"] == field.n_qubits + 1
    assert small["density"]["energy"] <= 2**field.n_qubits
    assert large["environment"]["energy"] == 64 * small["environment"]["energy"]


@pytest.mark.parametrize("strategy", ["operator", "density", "environment"])
def test_the_estimate_is_what_the_estimator_executes(field, trained, monkeypatch, rng, strategy) -> None:
    """Executions are counted at the sampler below the runtime's Estimator; the registers of the device are joint."""
    device = FakeTorino()
    simulator = AerSimulator(
        method="matrix_product_state",
        coupling_map=device.coupling_map,
        basis_gates=["rz", "sx", "x", "cz"],
        n_qubits=device.num_qubits,
    )
    executions, run = [], SamplerV2.run

    def counted(self, pubs, **options):
        executions.extend(pub.shots * int(np.prod(pub.parameter_values.shape, dtype=int)) for pub in pubs)
        return run(self, pubs, **options)

    monkeypatch.setattr(SamplerV2, "run", counted)
    estimator = Estimator(mode=simulator, options=estimator_options(find_preset("none"), local=True))
    inner = PrimitiveEvaluator(estimator, backend=simulator, gaussian_noise=False, rng=rng)

    def joint(n_qubits: int, n_registers: int) -> TiledEvaluator:
        return TiledEvaluator(tile(device.target, n_qubits, n_registers), lambda _: inner, is_joint=True)

    frame = read_frames(trained / "data.extxyz")[0]
    found = predict_measured(field, [frame], evaluator_for=joint, strategy=strategy, shots=SHOTS)
    assert found.cost.shots == sum(executions)
    costs = quantum_costs(field, Counter(frame.numbers.tolist()), backend="fake_torino", n_frames=1, shots=SHOTS)
    shots = {cost.quantity: cost.shots for cost in costs if cost.strategy == strategy}
    # The circuits of forces by ``environment`` hold those of the energy.
    assert sum(executions) == shots["once"] + max(shots["energy"], shots["forces"])


def test_time_and_depth_on_a_fake_device(field) -> None:
    def costs(mitigation: str, shots: int, backend: str = "fake_torino") -> dict:
        found = quantum_costs(field, {29: 5, 79: 3}, backend=backend, n_frames=2, shots=shots, mitigation=mitigation)
        return {(cost.strategy, cost.quantity): cost for cost in found}

    plain, mitigated = costs("none", 1000), costs("zne", 1000)
    assert plain["environment", "energy"].shots == 1000 * 5
    assert plain["environment", "energy"].two_qubit_depth >= plain["operator", "once"].two_qubit_depth > 0
    assert plain["operator", "energy"].seconds == plain["operator", "energy"].two_qubit_depth == 0
    assert mitigated["operator", "once"].seconds > plain["operator", "once"].seconds > 0
    once = plain["operator", "once"]
    assert once.shots == 1000 * (field.n_qubits + 1)
    assert once.seconds == TimingModel().seconds(shots=once.shots, jobs=1)
    # Registers that find no room on a small device take another round.
    rounds = len(field.registers)
    assert costs("none", 1000, "fake_manila")["operator", "once"].circuits == rounds * (field.n_qubits + 1)
