"""Model files, ledger, configuration, and the equality of circuit and kernel."""

import json

import numpy as np
import pytest
from fitting import fitted
from qiskit.quantum_info import Statevector

from qiskit_qff.circuit.ansatz import diagonal_observable
from qiskit_qff.errors import ModelFileError
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_shipped

CONFIG = {
    "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1},
    "max_parameters": 40,
}


@pytest.fixture(scope="module")
def frames():
    return read_shipped()[:3]


@pytest.fixture(scope="module")
def force_field(frames):
    return fitted(frames, parse_config(CONFIG, where="test"), rng=np.random.default_rng(0)).force_field


def test_energies_are_sums_over_registers(force_field, frames):
    """x^T M x of every register and the reference energies."""
    frame, total, references = frames[0], 0.0, {m.number: m.reference_energy for m in force_field.models}
    assert max(place for _, place in force_field.registers) > 1
    for (number, place), vectors in force_field.amplitudes(frame).items():
        matrix = force_field.registers[number, place].operator_matrix()
        total += np.einsum("ia,ab,ib->", vectors, matrix, vectors)
        total += references[number] * len(vectors) if place == 0 else 0.0
    # No pair is inside the core radii of a training frame.
    found = force_field.predict(frame)
    assert found.energy == pytest.approx(total, abs=1e-10 * np.abs(found.energies).sum())


def test_energy_is_what_the_circuits_measure(force_field, frames):
    """Encode, run U, read Z strings on Qiskit's own statevector, for a few atoms in every register."""
    for key, vectors in force_field.amplitudes(frames[0]).items():
        register = force_field.registers[key]
        program = register.bound_program().program
        circuit = program.circuit.assign_parameters(register.theta)
        for x in vectors[:4]:
            norm = np.linalg.norm(x)
            state = Statevector(x / norm).evolve(circuit)
            readouts = [
                state.expectation_value(observable).real for observable in map(diagonal_observable, program.readouts)
            ]
            measured = norm**2 * float(register.weights @ readouts)
            assert measured == pytest.approx(x @ register.operator_matrix() @ x, abs=1e-10)


def test_round_trip_is_exact(force_field, frames, tmp_path):
    path = tmp_path / "model.json"
    force_field.save(path)
    again = ForceField.load(path)
    assert again.to_dict() == json.loads(json.dumps(force_field.to_dict()))
    np.testing.assert_array_equal(again.predict(frames[1]).forces, force_field.predict(frames[1]).forces)
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), "upgrade"),
        (lambda d: d.update(format="x"), "not a model file"),
        (lambda d: d.pop("species"), "damaged"),
        (lambda d: d["species"][0]["registers"][0].update(theta="nonsense"), "damaged"),
        (lambda d: d["species"][0]["registers"][0]["theta"].pop(), "angles"),
        (lambda d: d["species"][0]["registers"][0]["weights"].append(1.0), "weights"),
        (lambda d: d["species"][0]["registers"][0].update(n_features=9), "9 were given"),
        (lambda d: d["species"][0]["registers"].pop(), "the registers hold"),
        (lambda d: d["posterior"]["covariance"].pop(), "triangle"),
        (lambda d: d["species"][0]["compression"]["mean"].pop(), "compression"),
        (lambda d: d["species"][0]["compression"]["channels"]["pair_species"].append(1), "channel"),
        (lambda d: d.update(r_cut=-1.0), "r_cut"),
    ],
)
def test_damaged_model_files(force_field, tmp_path, change, message):
    path = tmp_path / "model.json"
    force_field.save(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match=message) as caught:
        ForceField.load(path)
    assert str(path) in str(caught.value)
