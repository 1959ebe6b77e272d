"""What ``qff evaluate --uncertainty`` and ``qff info`` say of grades and uncertainties."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
        ConfigError: if the model file has no posterior.
        DataError: if a frame lacks labels.
    """
    from qiskit_qff.model.metrics import coverage, deviations_of

    if len(comparison.energies) < len(frames) or len(comparison.forces) < comparison.n_atoms:
        raise DataError("--uncertainty compares with errors: every frame needs its energy and all forces.")
    estimator = field.uncertainty()
    with output.progress("uncertainty") as advance:
        deviations = deviations_of(estimator, frames, comparison, progress=advance)
    found, posterior = coverage(deviations), estimator.posterior
    outside = [k for k, grade in enumerate(deviations.largest_grades) if not grade <= estimator.limit]
    output.say(
        f"uncertainty: {found.force_std_mev_per_ang:.3g} meV/Å, {found.energy_std_mev_per_atom:.3g} meV/atom "
        f"({f'factor {posterior.factor:.2f}' if posterior.n_held_out else 'not scaled: nothing was held out'})"
    )
    output.table(
        "errors within intervals (%)",
        ("interval", "forces", "energies"),
        [(100 * found.nominal[k], 100 * found.forces[k], 100 * found.energies[k]) for k in (4, 6, 8, 9)],
    )
    output.say(f"{len(outside)} of {len(frames)} frames have an atom outside the training data")
    return {
        **found.to_dict(),
        "factor": posterior.factor,
        "calibrated": posterior.n_held_out > 0,
        "frames_outside": outside,
        "largest_grade": float(deviations.largest_grades.max()),
    }


def print_training_domain(field: "ForceField", output: Output) -> dict[str, Any] | None:
    """Tell where the model was trained and whether its uncertainties are scaled; None for older files.

    Args:
        field: the model.
        output: where to tell it.
    """
    from ase.data import chemical_symbols

    from qiskit_qff.model.uncertainty import LIMIT

    posterior = field.posterior
    if posterior is None:
        return None
    counts = {chemical_symbols[m.number]: int(n) for m, n in zip(field.models, posterior.counts, strict=True)}
    scaled = (
        f"times {posterior.factor:.2f}, fitted to {posterior.n_held_out} held-out frames"
        if posterior.n_held_out
        else "not scaled to held-out errors"
    )
    output.say(f"training atoms: {', '.join(f'{count} {symbol}' for symbol, count in counts.items())}")
    output.say(f"uncertainty: posterior of the coefficients, {scaled}; extrapolation grades up to {LIMIT:g} are known")
    return {
        "grade_limit": LIMIT,
        "training_atoms": counts,
        "factor": posterior.factor if posterior.n_held_out else None,
    }
