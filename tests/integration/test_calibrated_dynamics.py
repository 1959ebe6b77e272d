"""Dynamics on a measured operator: another energy surface, conserved as well as the exact one."""

import numpy as np
import pytest
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model

from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate, calibration_errors
from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.structures.frame import Frame

SHOTS = 2000
DURATION_FS = 1600


@pytest.fixture(scope="module")
def models():
    """The exact model, and one whose M was measured with few shots."""
    exact, rng = small_quantum_model(), np.random.default_rng(4)
    provenance = Provenance("exact", SHOTS, "none", "2025-01-01T00:00:00+00:00", 4)
    evaluator = ExactEvaluator(rng, shots=SHOTS)
    return exact, calibrate(exact, lambda *_: evaluator, provenance=provenance)[0]


def conserved(model, directory, timestep_fs):
    """Drift and spread of the total energy in meV/atom/ps and meV/atom."""
    atoms = mixed_crystal(2, rattle=0.05)
    settings = MDSettings(
        temperature_k=40, steps=round(DURATION_FS / timestep_fs), timestep_fs=timestep_fs, ensemble="nve", interval=2
    )
    summary = run_dynamics(atoms, model, settings, directory)
    return summary.drift_mev_per_atom_per_ps, 1e3 * np.std(read_log(summary.log)["conserved_ev"]) / len(atoms)


def test_a_measured_model_conserves_energy_as_well_as_the_exact_one(models, tmp_path) -> None:
    exact, measured = models
    frame = Frame.from_atoms(mixed_crystal(2, rattle=0.05))
    forces = exact.predict(frame).forces
    # The noise is real: it moves forces by several per cent, about as far as its standard error says.
    off = np.sqrt(np.mean((measured.predict(frame).forces - forces) ** 2))
    expected = np.sqrt(np.mean(calibration_errors(measured, [frame])[0].force_std ** 2))
    assert off > 0.02 * np.sqrt(np.mean(forces**2))
    assert 0.2 < off / expected < 3.0
    found = {
        (name, step): conserved(model, tmp_path / f"{name}{step}", step)
        for name, model in (("exact", exact), ("measured", measured))
        for step in (4.0, 2.0)
    }
    for step in (4.0, 2.0):
        (drift, spread), (exact_drift, exact_spread) = found["measured", step], found["exact", step]
        assert spread < 1.5 * exact_spread
        assert abs(drift) < 1.5 * abs(exact_drift) + exact_spread
    # What is left comes from the time step alone: of second order, as for the exact model.
    assert found["measured", 4.0][1] / found["measured", 2.0][1] == pytest.approx(4.0, rel=0.2)
