"""``record.json``: what is written is read back, rounded; large sets keep some atoms."""

import numpy as np
import pytest

from qiskit_qff.model.metrics import Comparison
from qiskit_qff.report.record import MOST_FORCES, environment, read_record, write_record


def comparison(n_atoms: int) -> Comparison:
    rng = np.random.default_rng(4)
    forces = rng.normal(size=(n_atoms, 3))
    return Comparison(
        n_frames=3,
        n_atoms=n_atoms,
        energies=np.array([-3.1, -3.2, -3.3]),
        predicted_energies=np.array([-3.15, -3.2, -3.25]),
        forces=forces,
        predicted_forces=forces + rng.normal(0.0, 0.1, forces.shape),
        species=rng.choice([3, 8], n_atoms),
        stresses=rng.normal(0.0, 0.01, (2, 6)),
        predicted_stresses=rng.normal(0.0, 0.01, (2, 6)),
        compositions=("Li1O1", "Li1O1", "Li2O1"),
    )


def test_read_back(tmp_path) -> None:
    sets = {"train": comparison(7), "test": comparison(9)}
    write_record(tmp_path, sets)
    again, versions = read_record(tmp_path)
    assert versions == environment()
    assert list(again) == ["train", "test"]
    for name, one in sets.items():
        other = again[name]
        np.testing.assert_allclose(other.energies, one.energies, atol=1e-7)
        assert other.compositions == one.compositions
        np.testing.assert_allclose(other.predicted_forces, one.predicted_forces, atol=6e-5)
        np.testing.assert_array_equal(other.species, one.species)
        np.testing.assert_allclose(other.stresses, one.stresses, atol=1e-7)
        np.testing.assert_allclose(other.predicted_stresses, one.predicted_stresses, atol=1e-7)


def test_large_sets_keep_some_atoms(tmp_path) -> None:
    large = comparison(3 * MOST_FORCES)
    write_record(tmp_path, {"test": large})
    kept = read_record(tmp_path)[0]["test"]
    assert len(kept.forces) == len(kept.species) == MOST_FORCES
    assert kept.n_atoms == 3 * MOST_FORCES
    assert (tmp_path / "record.json").stat().st_size < 700_000
    spread = np.sqrt(np.mean(kept.force_errors**2)) / np.sqrt(np.mean(large.force_errors**2))
    assert spread == pytest.approx(1.0, abs=0.02)


def test_environment_names_no_machine() -> None:
    import platform

    words = " ".join(f"{name} {value}" for name, value in environment().items())
    assert {"qiskit_qff", "Python", "numpy", "qiskit"} <= set(environment())
    assert platform.node() not in words
