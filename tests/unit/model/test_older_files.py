"""Files of version 0.1 have one circuit per element: they load as one register each."""

import json
from dataclasses import replace

import numpy as np
import pytest
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model

from qiskit_qff.circuit.ansatz import AnsatzSpec, angles_for_vector, build_program, operator_matrix
from qiskit_qff.model.calibration import calibration_errors
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame

MEMBERS = 3


@pytest.fixture(scope="module")
def today():
    """A model of today, whose compression and core repulsion the older files share."""
    return small_quantum_model().to_dict()


def old_species(entry, spec, rng, **changes):
    """An element as version 0.1 wrote it: its circuit, and a committee of angles, weights and energies."""
    kept = {key: entry[key] for key in ("number", "compression", "reference_energy")}
    size = len(entry["compression"]["matrix"])
    if spec.family == "ry_tree":
        vector = np.append(1.0, rng.normal(size=spec.n_amplitudes - 1))
        vector[1:] /= np.linalg.norm(vector[1:])  # half of the square belongs to the constant amplitude
        theta = angles_for_vector(spec, vector)
    else:
        theta = rng.normal(size=spec.n_angles)
    spread = {
        "theta": 0.05 * rng.normal(size=(MEMBERS, spec.n_angles)),
        "weights": 0.05 * rng.normal(size=(MEMBERS, spec.n_readouts)),
        "references": 0.1 * rng.normal(size=MEMBERS),
    }
    ansatz = {"family": spec.family, "readout": spec.readout, "n_amplitudes": spec.n_amplitudes, "layers": spec.layers,
              "n_readouts": spec.n_readouts}  # fmt: skip
    assert size < spec.n_amplitudes
    return kept | {
        "ansatz": ansatz,
        "theta": theta.tolist(),
        "weights": rng.normal(size=spec.n_readouts).tolist(),
        "spread": {key: value.tolist() for key, value in spread.items()},
        **changes,
    }


def n_features(entry):
    return sum(register["n_features"] for register in entry["registers"])


@pytest.fixture(params=["balanced", "brickwork"])
def document(today, request):
    """A file of version 5."""
    rng, species = np.random.default_rng(3), []
    for entry in today["species"]:
        size = n_features(entry) + 1
        if request.param == "balanced":
            spec, changes = AnsatzSpec("ry_tree", "rank_one", size), {"balanced": True}
        else:
            spec, changes = AnsatzSpec("brickwork_rzz", "z_diagonal", size, layers=2, n_readouts=3), {}
        species.append(old_species(entry, spec, rng, **changes))
    shared = {key: today[key] for key in ("r_cut", "repulsion", "fitted_references")}
    return {"format": "qiskit_qff model", "version": 5, **shared, "species": species, "metadata": {"note": "old"}}


@pytest.fixture
def loaded(document, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(document))
    return ForceField.load(tmp_path / "old.json")


def expected(document, field, frame, changed):
    """Energy by the formula of version 0.1, M and reference energy of each element given by ``changed``."""
    features = {z: [] for z in field.species}
    for (number, _), vectors in field.amplitudes(frame).items():
        features[number].append(vectors)
    total = 0.0
    for entry in document["species"]:
        (x,) = features[entry["number"]]
        matrix, reference = changed(entry)
        total += np.einsum("ia,ab,ib->", x, matrix, x) + len(x) * reference
    return total


def test_one_register_per_element_with_the_same_energies(document, loaded):
    frame = Frame.from_atoms(mixed_crystal(2, seed=3, rattle=0.1))
    assert [len(model.registers) for model in loaded.models] == [1] * len(loaded.models)

    def own(entry):
        program = build_program(AnsatzSpec(**entry["ansatz"]))
        matrix = operator_matrix(program, np.array(entry["theta"]), np.array(entry["weights"]))
        return matrix, entry["reference_energy"]

    energy = expected(document, loaded, frame, own)
    found = loaded.predict(frame)
    assert found.energy == pytest.approx(energy, rel=1e-10)
    counted = sum(
        n_features_of(entry) if entry.get("balanced") else len(entry["theta"]) + len(entry["weights"])
        for entry in document["species"]
    )
    assert loaded.n_trainable == counted + document["fitted_references"]


def n_features_of(entry):
    return entry["ansatz"]["n_amplitudes"] - 1


def test_registers_of_version_6_are_read(today, tmp_path):
    older = {**today, "format": "qiskit_qff model", "version": 6, "uncertainty": {"factor": 1.2, "n_frames": 3}}
    del older["posterior"]
    for entry in older["species"]:
        entry["domain"] = {"count": 3, "moments": [1.0], "largest": 2.0}
        entry["spread"] = {"triangles": [[0.1], [0.2]], "references": [0.1, 0.2]}
    (tmp_path / "old.json").write_text(json.dumps(older))
    frame = Frame.from_atoms(mixed_crystal(2, seed=3, rattle=0.1))
    found = ForceField.load(tmp_path / "old.json").predict(frame)
    np.testing.assert_array_equal(found.forces, ForceField.from_dict(today).predict(frame).forces)


@pytest.mark.parametrize("document", ["balanced"], indirect=True)
def test_calibrations_by_the_first_column_are_read_without_their_errors(document, tmp_path):
    """|0> and (|0> ± |k>)/√2 gave the first column of M = w u u^T, and with it all of M."""
    origin = {"backend": "fake_torino", "shots": 4096, "mitigation": "none", "date": "2025-01-01T00:00:00+00:00"}
    for entry in document["species"]:
        spec = AnsatzSpec(**entry["ansatz"])
        matrix = operator_matrix(build_program(spec), np.array(entry["theta"]), np.array(entry["weights"]))
        variances = np.full(2 * spec.n_amplitudes - 1, 1e-6)
        entry["measured"] = {"matrix": matrix.tolist(), "variances": variances.tolist(), "design": "first_column"}
        entry["measured"] |= {"spectrum_known": True, "provenance": origin}
    (tmp_path / "old.json").write_text(json.dumps(document))
    field = ForceField.load(tmp_path / "old.json")
    frame = Frame.from_atoms(mixed_crystal(2, seed=3, rattle=0.1))
    plain = field.with_registers({key: replace(one, measured=None) for key, one in field.registers.items()})
    np.testing.assert_allclose(field.predict(frame).forces, plain.predict(frame).forces, atol=1e-9)
    (errors,) = calibration_errors(field, [frame])
    assert np.isnan(errors.force_std).all()
