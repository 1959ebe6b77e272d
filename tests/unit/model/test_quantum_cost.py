"""Closed formulas of the cost: what the evaluators really run, and no atoms in ``density`` and ``operator``."""

import numpy as np
import pytest

from qiskit_qff.errors import BackendError, DataError
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.strategies import density, environment
from qiskit_qff.evaluators.strategies.operator import measure_operator, theta_gradient
from qiskit_qff.evaluators.strategies.spectrum import default_design
from qiskit_qff.evaluators.timing import TimingModel
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.quantum_cost import circuit_counts, quantum_costs


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


def test_only_environment_depends_on_atoms_and_frames(field) -> None:
    small = circuit_counts(field, {29: 50, 79: 33}, n_frames=10)
    large = circuit_counts(field, {29: 3200, 79: 2112}, n_frames=600)
    assert small["density"] == large["density"]
    assert small["operator"] == large["operator"]
    assert small["operator"]["energy"] == small["operator"]["forces"] == 0
    assert small["density"]["energy"] <= len(field.registers) * 2**field.n_qubits
    assert large["environment"]["energy"] == 64 * small["environment"]["energy"]


def test_formulas_count_what_is_run(field, rng) -> None:
    run = {strategy: dict.fromkeys(("once", "energy", "forces", "gradient"), 0) for strategy in ("e", "d", "o")}
    evaluator, atoms = ExactEvaluator(), 12
    for register in field.registers.values():
        bound = register.bound_program()
        program = bound.program
        x = np.zeros((atoms, 2**program.n_qubits))
        x[:, : program.n_amplitudes] = rng.normal(size=(atoms, program.n_amplitudes))
        matrix = density.density_matrix(x)
        once = measure_operator(evaluator, bound, design=default_design(bound)).cost.circuits
        residuals = measure_operator(evaluator, bound).cost.circuits
        run["e"]["energy"] += environment.energies(evaluator, bound, x).cost.circuits
        run["e"]["forces"] += environment.amplitude_gradients(evaluator, bound, x).cost.circuits
        run["d"]["once"] += once
        run["d"]["energy"] += density.total_energy(evaluator, bound, x).cost.circuits
        run["d"]["gradient"] += residuals + density.theta_gradient(evaluator, bound, matrix).cost.circuits
        run["o"]["once"] += once
        run["o"]["gradient"] += theta_gradient(evaluator, bound, matrix).cost.circuits
    counts = circuit_counts(field, dict.fromkeys(field.species, atoms), n_frames=1)
    assert counts["density"] == run["d"]
    assert counts["operator"] == run["o"]
    assert counts["environment"]["energy"] == run["e"]["energy"]
    assert counts["environment"]["forces"] == run["e"]["forces"]


def test_time_and_depth_on_a_fake_device(field) -> None:
    def costs(mitigation: str, shots: int) -> dict:
        found = quantum_costs(
            field, {29: 5, 79: 3}, backend="fake_torino", n_frames=2, shots=shots, mitigation=mitigation
        )
        return {(cost.strategy, cost.quantity): cost for cost in found}

    plain, mitigated = costs("none", 1000), costs("zne", 1000)
    # Every atom in every register of its element.
    assert plain["environment", "energy"].shots == 1000 * sum({29: 5, 79: 3}[number] for number, _ in field.registers)
    assert plain["environment", "energy"].two_qubit_depth >= plain["operator", "once"].two_qubit_depth > 0
    assert plain["operator", "energy"].seconds == plain["operator", "energy"].two_qubit_depth == 0
    assert mitigated["operator", "once"].seconds > plain["operator", "once"].seconds > 0
    # Circuits of all registers share a job.
    once = plain["operator", "once"]
    assert once.seconds == TimingModel().seconds(shots=once.shots, jobs=1)


def test_bad_input(field) -> None:
    with pytest.raises(DataError, match="47"):
        circuit_counts(field, {47: 1}, n_frames=1)
    with pytest.raises(BackendError, match="fake_torino"):
        quantum_costs(field, {29: 1}, backend="exact", n_frames=1, shots=1)
