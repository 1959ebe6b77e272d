"""Estimated costs: the executions that the runtime's Estimator really makes."""

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
from qiskit_qff.model.calibrated_operator import Provenance
from qiskit_qff.model.calibration import calibrate
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.quantum_cost import quantum_costs

SHOTS = 32


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


def test_the_estimate_is_what_the_estimator_executes(field, monkeypatch, rng) -> None:
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

    origin = Provenance("fake_torino", SHOTS, "none", "")
    _, cost = calibrate(field, evaluator_for=joint, provenance=origin)
    told, _ = quantum_costs(field, backend="fake_torino", shots=SHOTS)
    assert told.shots == cost.shots == sum(executions)


def test_time_and_depth_on_a_fake_device(field) -> None:
    def costs(mitigation: str, backend: str = "fake_torino") -> dict:
        found = quantum_costs(field, backend=backend, shots=1000, mitigation=mitigation)
        return {cost.quantity: cost for cost in found}

    once = costs("none")["calibration"]
    assert once.two_qubit_depth > 0
    assert once.shots == 1000 * (field.n_qubits + 1)
    assert once.seconds == TimingModel().seconds(shots=once.shots, jobs=1)
    assert costs("zne")["calibration"].seconds > once.seconds > 0
    # Registers that find no room on a small device take another round.
    rounds = len(field.registers)
    assert costs("none", "fake_manila")["calibration"].circuits == rounds * (field.n_qubits + 1)
