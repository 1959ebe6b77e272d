"""What commands say about stresses: whether a model was fitted to any, and what its volume in npt rests on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.calculator import Potential
    from qiskit_qff.structures.frame import Frame


def fitted_scale(field: "ForceField") -> float | None:
    """The error that counted as one unit when a model was fitted to stresses, in meV/Å³; None where it was not."""
    config = field.metadata.get("config") or {}
    scale = (config.get("loss") or {}).get("stress_scale_mev_per_ang3")
    return None if scale is None else float(scale)


def count_stresses(frames: "Sequence[Frame]") -> int:
    """Frames whose stress can be fitted: those with three periods."""
    return sum(frame.stress is not None and bool(frame.pbc.all()) for frame in frames)


def tell_stresses(frames: "Sequence[Frame]", config: "TrainConfig", output: Output) -> None:
    """Say whether the stresses of training frames are fitted, and how many these are."""
    count = count_stresses(frames)
    if config.loss.stress_scale_mev_per_ang3 is not None:
        output.note(f"stresses fitted: of {count} of {len(frames)} training frames")
    elif count:
        output.note(
            f"stresses of {count} of {len(frames)} training frames are not fitted; for simulations at constant "
            "pressure, and if the calculation was converged for them, fit them: --stress-scale 2 (meV/Å³)"
        )


def warn_of_volume(
    potential: "Potential", start: "Frame", pressure_gpa: float, output: Output, *, fitted: bool
) -> None:
    """Say, before npt begins, what the volume that it ends at rests on."""
    from ase.units import GPa

    from qiskit_qff.simulation.calculator import QFFCalculator

    atoms = start.to_atoms()
    atoms.calc = QFFCalculator(potential)
    pressure = -float(atoms.get_stress()[:3].mean()) / GPa  # type: ignore[no-untyped-call]
    here = (
        f"by it the pressure here is {pressure:+.2g} GPa with atoms at rest, and npt changes the volume until, heat "
        f"included, it is {pressure_gpa:g} GPa"
    )
    if fitted:
        output.note(f"this model was fitted to stresses, too; {here}. How wrong they are, qff evaluate says")
    else:
        output.note(
            f"this model was fitted to energies and forces, not to stresses; {here}. Trust that volume if the training "
            "data hold several, or train on stresses (--stress-scale)"
        )
