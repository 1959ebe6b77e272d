"""What ``qff evaluate --uncertainty`` and ``qff info`` say of grades and uncertainties."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff.cli.output import Output
from qiskit_qff.errors import DataError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.metrics import Comparison
    from qiskit_qff.structures.frame import Frame


def print_uncertainty(
    field: "ForceField", frames: Sequence["Frame"], comparison: "Comparison", output: Output
) -> dict[str, Any]:
    """Tell how uncertainties compare with errors, and which frames are outside the training data.

    Args:
        field: the model.
        frames: structures with energies and forces.
        comparison: labels and the model's predictions.
        output: where to tell it.

    Raises:
        ConfigError: if the model file has neither grades nor a committee.
        DataError: if a frame lacks labels.
    """
    from qiskit_qff.model.coverage import coverage, spreads_of
    from qiskit_qff.model.extrapolation import Grader

    if len(comparison.energies) < len(frames) or len(comparison.forces) < comparison.n_atoms:
        raise DataError("--uncertainty compares with errors: every frame needs its energy and all forces.")
    grader = Grader.of(field.models, r_cut=field.r_cut)
    with output.progress("uncertainty") as advance:
        spreads = spreads_of(field, frames, comparison, progress=advance)
    factor = 1.0 if field.uncertainty is None else field.uncertainty.factor
    found = coverage(spreads, factor * spreads.forces, factor * spreads.energies)
    grades = [grader.frame(frame) for frame in frames]
    outside = [k for k, graded in enumerate(grades) if graded.outside.any()]
    output.say(
        f"uncertainty: {found.force_std_mev_per_ang:.3g} meV/Å, {found.energy_std_mev_per_atom:.3g} meV/atom "
        f"({'factor ' + format(factor, '.2f') if field.uncertainty else 'not calibrated: nothing was held out'})"
    )
    output.table(
        "errors within intervals (%)",
        ("interval", "forces", "energies"),
        [(100 * found.nominal[k], 100 * found.forces[k], 100 * found.energies[k]) for k in (4, 6, 8, 9)],
    )
    output.say(f"{len(outside)} of {len(frames)} frames have an atom outside the training data")
    return {
        **found.to_dict(),
        "factor": factor,
        "calibrated": field.uncertainty is not None,
        "frames_outside": outside,
        "largest_grade": float(max(graded.values.max() for graded in grades)),
    }


def print_training_domain(field: "ForceField", output: Output) -> dict[str, Any] | None:
    """Tell where the model was trained and whether its uncertainties are calibrated; None for older files.

    Args:
        field: the model.
        output: where to tell it.
    """
    from ase.data import chemical_symbols

    from qiskit_qff.model.extrapolation import MARGIN

    domains = {chemical_symbols[m.number]: m.domain for m in field.models if m.domain is not None}
    if not domains:
        return None
    output.table(
        "extrapolation grades (1: root mean square in training)",
        ("element", "training atoms", "largest", "limit"),
        [(symbol, domain.count, domain.largest, MARGIN * domain.largest) for symbol, domain in domains.items()],
    )
    committee = [m.spread.references.size for m in field.models if m.spread is not None]
    calibration = field.uncertainty
    if committee:
        words = (
            "not calibrated"
            if calibration is None
            else (f"times {calibration.factor:.2f}, fitted to {calibration.n_frames} held-out frames")
        )
        output.say(f"uncertainty: spread of {committee[0]} draws, {words}; no energy or force depends on them")
    return {
        "grade_limits": {symbol: MARGIN * domain.largest for symbol, domain in domains.items()},
        "largest_grades": {symbol: domain.largest for symbol, domain in domains.items()},
        "training_atoms": {symbol: domain.count for symbol, domain in domains.items()},
        "committee": int(np.max(committee, initial=0)),
        "factor": None if calibration is None else calibration.factor,
    }
