"""What verbs say of a calibrated model: where its operators come from and how uncertain they make forces."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.model.calibration import PredictionError
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.measured import MeasuredPrediction
    from qiskit_qff.structures.frame import Frame

MOST_ATOMS = 10_000
"""Largest frame whose standard errors are told: beyond it they take longer than many steps of dynamics."""


def print_calibration(field: "ForceField", output: Output) -> dict[str, Any]:
    """What was measured for each element, as a table and for JSON; empty where the model is not calibrated."""
    summary = calibration_summary(field)
    if summary:
        print_summary(summary, output)
    return summary


def print_summary(summary: Mapping[str, Mapping[str, Any]], output: Output) -> None:
    """What :func:`calibration_summary` gave, as a table."""
    output.table(
        "M measured on a backend, used for energies and forces (eV)",
        ("element", "backend", "shots", "mitigation", "date", "std error of M", "off the exact M"),
        [
            (
                symbol,
                *(entry[key] for key in ("backend", "shots", "mitigation", "date")),
                entry["std_error_ev"],
                entry["deviation_ev"],
            )
            for symbol, entry in summary.items()
        ],
    )
    for symbol, entry in summary.items():
        if entry["qubits"]:
            line = ", ".join(map(str, entry["qubits"]))
            readout, gates = (_percent(entry[key]) for key in ("readout_errors", "two_qubit_errors"))
            output.say(f"  {symbol}: qubits {line}; errors of readout {readout}, of two-qubit gates {gates}")


def calibration_summary(field: "ForceField") -> dict[str, Any]:
    """Provenance, rms standard error and rms deviation from the exact M in eV, by chemical symbol."""
    from dataclasses import asdict

    import numpy as np
    from ase.data import chemical_symbols

    summary = {}
    for model in field.models:
        parts = []
        for register in model.registers:
            if register.measured is not None:
                upper = np.triu_indices(register.n_features + 1)
                errors = register.measured.operator(register.bound_program()).entry_errors()[upper]
                deviation = (register.measured.matrix - register.circuit_matrix())[upper]
                parts.append((register.measured.provenance, errors, deviation))
        if parts:
            summary[chemical_symbols[model.number]] = {
                **asdict(parts[0][0]),
                **{
                    name: [value for part in parts for value in getattr(part[0], name)]
                    for name in ("qubits", "two_qubit_errors", "readout_errors")
                },
                "n_registers": len(parts),
                "std_error_ev": float(np.sqrt(np.mean(np.concatenate([part[1] for part in parts]) ** 2))),
                "deviation_ev": float(np.sqrt(np.mean(np.concatenate([part[2] for part in parts]) ** 2))),
            }
    return summary


def calibration_extra(field: "ForceField", frames: Sequence["Frame"]) -> dict[str, Any]:
    """Root mean square standard errors of frames and where they come from; nothing where M is not measured."""
    from qiskit_qff.model.calibration import calibration_errors, is_calibrated

    if not is_calibrated(field):
        return {}
    return {**spread(calibration_errors(field, frames), frames), "calibration": calibration_summary(field)}


def calibration_note(potential: object, frame: "Frame") -> tuple[str, dict[str, Any]]:
    """One line for a run with a calibrated model, and the same for JSON.

    Args:
        potential: The model; other potentials have no calibration.
        frame: The structure at the start.

    Returns:
        Empty text and nothing where nothing was measured.
    """
    from qiskit_qff.model.force_field import ForceField

    if not isinstance(potential, ForceField) or not (summary := calibration_summary(potential)):
        return "", {}
    known = calibration_extra(potential, [frame]) if frame.n_atoms <= MOST_ATOMS else {"calibration": summary}
    origins = {
        f"{entry['backend']}, {entry['date']}, {entry['shots']} shots, mitigation {entry['mitigation']}"
        + (", dynamical decoupling" if entry["dynamical_decoupling"] else "")
        for entry in summary.values()
    }
    error = known.get("force_std_mev_per_ang")
    precision = "" if error is None else f"; standard error of the first frame's forces {error:.4g} meV/Å (rms)"
    return f"calibrated model ({', '.join(summary)}): {'; '.join(sorted(origins))}{precision}", known


def spread(errors: "Sequence[MeasuredPrediction | PredictionError]", frames: Sequence["Frame"]) -> dict[str, float]:
    """Root mean square of the standard errors of energies per atom, forces and labelled stresses, in meV and Å."""
    import numpy as np

    from qiskit_qff.model.metrics import MEV_PER_EV, root_mean_square, six_components

    per_atom = np.array([e.energy_std / f.n_atoms for e, f in zip(errors, frames, strict=True)])
    spread = {
        "energy_std_mev_per_atom": MEV_PER_EV * root_mean_square(per_atom),
        "force_std_mev_per_ang": MEV_PER_EV * root_mean_square(np.concatenate([e.force_std.ravel() for e in errors])),
    }
    labelled = [e.stress_std for e, f in zip(errors, frames, strict=True) if f.stress is not None]
    stresses = [stress for stress in labelled if stress is not None]
    if stresses:
        spread["stress_std_mev_per_ang3"] = MEV_PER_EV * root_mean_square(six_components(stresses))
    return spread


def _percent(errors: Sequence[float]) -> str:
    """Range of some error rates."""
    return f"{100 * min(errors):.2g} to {100 * max(errors):.2g} %" if errors else "unknown"
