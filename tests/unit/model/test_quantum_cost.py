"""Estimated costs: the executions that the runtime's Estimator really makes."""

import numpy as np
import pytest
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeTorino

from qiskit_qff.evaluators.backends import Settings
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.evaluators.mitigation import estimator_options, find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import TimingModel
from qiskit_qff.evaluators.tiling import place
from qiskit_qff.model.calibration import calibrate, estimate
from qiskit_qff.model.force_field import ForceField

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

    def joint(sizes) -> PrimitiveEvaluator:
        tiles = place(device.target, sizes)
        return PrimitiveEvaluator(estimator, backend=simulator, gaussian_noise=False, tiles=tiles, rng=rng)

    _, cost = calibrate(field, joint, provenance=Provenance("fake_torino", SHOTS))
    told, _ = estimate(field, Settings("fake_torino", SHOTS))
    assert told["n_shots"] == cost.shots == sum(executions)


def test_time_and_depth_on_a_fake_device(field) -> None:
    once, _ = estimate(field, Settings("fake_torino", 1000))
    assert once["two_qubit_depth"] > 0
    assert once["n_shots"] == 1000 * (field.n_qubits + 1)
    assert once["qpu_seconds"] == TimingModel().seconds(shots=once["n_shots"], jobs=1)
    assert estimate(field, Settings("fake_torino", 1000, "zne"))[0]["qpu_seconds"] > once["qpu_seconds"] > 0
    # Registers that find no room on a small device take another round.
    rounds = len(field.registers)
    assert estimate(field, Settings("fake_manila", 1000))[0]["n_circuits"] == rounds * (field.n_qubits + 1)
