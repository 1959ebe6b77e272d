"""What every ansatz keeps, Qiskit's and a user's own: matrices, derivatives, training, files, the command line."""

from functools import partial

import numpy as np
import pytest
from ase.io import write
from fitting import DESCRIPTOR
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import Operator, Pauli

from qiskit_qff import ForceField, read_frames, register_ansatz, train
from qiskit_qff.circuit import ansatz
from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program, operator_matrix, readout_jacobian, readout_matrices
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate
from qiskit_qff.model.config import parse_config
from qiskit_qff.training import objective


def mixed(n_amplitudes, layers):
    """A circuit of gates that must be translated, an angle in two of them, and one that is scaled."""
    n_qubits = (n_amplitudes - 1).bit_length()
    angles = iter(ParameterVector("turn", 4 * layers * n_qubits))
    circuit = QuantumCircuit(n_qubits)
    for _ in range(layers):
        for qubit in range(n_qubits):
            shared = next(angles)
            circuit.u(shared, 2.0 * next(angles) + 0.1, 0.3, qubit)
            circuit.crx(next(angles), qubit, (qubit + 1) % n_qubits)
            circuit.rxx(shared, qubit, (qubit + 1) % n_qubits)
            circuit.p(next(angles), qubit)
        circuit.barrier()
        circuit.x(0)
    return circuit


@pytest.fixture
def own(monkeypatch):
    """The same, registered for one test."""
    monkeypatch.setattr(ansatz, "FAMILIES", dict(ansatz.FAMILIES))
    register_ansatz("mixed", mixed)
    yield "mixed"
    build_program.cache_clear()


PAULIS = ("XX", "IZ", "YY", "XI", "ZX")
LONGER = (*("I" + label for label in PAULIS), "YXZ")
FAMILIES = (
    "ry_tree",
    "brickwork_cz",
    "brickwork_rzz",
    "real_amplitudes",
    "efficient_su2",
    "excitation_preserving",
    "mixed",
)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("readout", ["rank_one", "z_diagonal", LONGER])
def test_matrices_are_those_of_the_circuit_and_derivatives_theirs(family, readout, rng) -> None:
    program = build_program(AnsatzSpec(family, readout, 7, layers=2, n_readouts=3 if readout == "z_diagonal" else 1))
    theta = rng.uniform(-np.pi, np.pi, program.n_angles)
    drawn = ansatz.find_ansatz(family)(7, 2)
    unitary = Operator(drawn.assign_parameters(theta)).data
    observables = list(map(np.diag, program.readouts))
    if readout == LONGER:
        observables = [Pauli(label).to_matrix() for label in LONGER]
        x = rng.normal(size=8)
        state = QuantumCircuit(3)
        state.prepare_state(x / np.linalg.norm(x))
        values = StatevectorEstimator().run([(state.compose(drawn), list(LONGER), theta)]).result()[0].data.evs
        np.testing.assert_allclose(x @ readout_matrices(program, theta) @ x, values * (x @ x), atol=1e-10)
    expected = np.array([unitary.conj().T @ observable @ unitary for observable in observables]).real
    np.testing.assert_allclose(readout_matrices(program, theta), expected, atol=1e-12)
    weights = np.linspace(-1.0, 2.0, program.n_readouts)
    weighted = np.tensordot(weights, expected, axes=1)
    np.testing.assert_allclose(operator_matrix(program, theta, weights), weighted, atol=1e-12)
    jacobian, step = readout_jacobian(program, theta), 1e-5
    for angle, shift in enumerate(step * np.eye(program.n_angles)):
        difference = readout_matrices(program, theta + shift) - readout_matrices(program, theta - shift)
        np.testing.assert_allclose(jacobian[angle], difference / (2 * step), atol=1e-8)


def settings(family, readout=("II", "IZ", "ZI")):
    """Few parameters of a register of two qubits."""
    circuit = {"family": family, "readout": list(readout), "n_qubits": 2, "layers": 1}
    return {"max_parameters": 60, "descriptor": DESCRIPTOR, "circuit": circuit}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("family", "readout"), [("efficient_su2", PAULIS), ("mixed", ("II", "IZ", "ZI"))])
def test_it_trains_and_is_measured_as_it_is_computed(family, readout, alloy_frames, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(objective, "RESTARTS", 1)
    trained = train(alloy_frames, parse_config(settings(family, readout), where="test"))
    ledger = trained.force_field.ledger.to_dict()
    assert ledger["weights"] == len(readout) * len(trained.force_field.registers)
    assert trained.result.bound <= trained.result.loss + 1e-9
    assert trained.metrics["train"].force_mae_mev_per_ang < 0.7 * np.mean(
        [1e3 * np.abs(atoms.get_forces()).mean() for atoms in alloy_frames]
    )
    trained.force_field.save(tmp_path / "model.json")
    field, (frame,) = ForceField.load(tmp_path / "model.json"), read_frames(alloy_frames[:1])
    exact = field.predict(frame)
    evaluators = partial(build_evaluator, Settings("statevector", None), rng=np.random.default_rng(0))
    measured, cost = calibrate(field, evaluators, provenance=Provenance("statevector", None))
    # Ten states of two qubits, in as many bases as the strings need: XX with XI, YY, ZX, IZ.
    assert cost.circuits == 10 * (4 if readout == PAULIS else 1)
    found = measured.predict(frame)
    assert found.energy == pytest.approx(exact.energy, abs=1e-8)
    np.testing.assert_allclose(found.forces, exact.forces, atol=1e-8)


def test_the_command_line_finds_it_as_an_entry_point(alloy_frames, tmp_path, qff, monkeypatch) -> None:
    monkeypatch.setattr(ansatz, "FAMILIES", dict(ansatz.FAMILIES))
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qiskit_qff.ansatz]\nmine = contracts.test_ansatz_contract:mixed\n")
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "data.extxyz", alloy_frames)
    (tmp_path / "mine.yaml").write_text(
        "data: {path: data.extxyz}\nmax_parameters: 60\ndescriptor: {r_cut: 4.0, n_radial: 2, l_max: 1}\n"
        "circuit: {family: mine, readout: z_diagonal, n_qubits: 2, layers: 1, n_readouts: 3}\n"
    )
    qff("train", tmp_path / "mine.yaml", "--out", tmp_path / "run")
    field = ForceField.load(tmp_path / "run" / "model.json")
    assert {register.ansatz.family for register in field.registers.values()} == {"mine"}


def test_a_name_that_nobody_knows_and_one_that_is_taken(tmp_path, qff) -> None:
    (tmp_path / "c.yaml").write_text("circuit: {family: nonesuch}\n")
    message = qff("train", tmp_path / "c.yaml", "--out", tmp_path / "run", code=2)[1]
    assert "Unknown ansatz family 'nonesuch'" in message
    assert "register_ansatz" in message
    with pytest.raises(ConfigError, match="exists already"):
        register_ansatz("ry_tree", mixed)


def test_a_circuit_of_the_wrong_size_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(ansatz, "FAMILIES", ansatz.FAMILIES | {"small": lambda *_: QuantumCircuit(1)})
    with pytest.raises(ConfigError, match="drew 1 qubits for 4 amplitudes; 2 are expected"):
        build_program(AnsatzSpec("small", "rank_one", 4))
