"""What ASE finds of this package by itself: checkpoints of runs as structures, and the calculator by the name ``qff``.

ASE loads this module with its file formats (entry point ``ase.ioformats``), so it imports nothing heavy. ASE 3's
``get_calculator_class`` and ``ase run`` do not look at plugins, so the name is registered where they do look.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.utils.plugins import ExternalIOFormat

if TYPE_CHECKING:
    from ase import Atoms

    from qiskit_qff.simulation.calculator import QFFCalculator

NAME = "qff"

checkpoint_format = ExternalIOFormat(
    desc="Checkpoint of qff md", code="1S", module="qiskit_qff.simulation.ase_format", glob="*checkpoint.npz"
)
"""Of the entry point ``qff-checkpoint``."""


class QFF:
    """What ASE's tools make a calculator from: ``ase run qff structure.xyz -p model=model.json``."""

    nolabel = True

    def __new__(cls, model: str, **options: Any) -> "QFFCalculator":  # type: ignore[misc]
        """The calculator.

        Args:
            model: Model file, or its directory.
            options: Further options of the calculator.
        """
        from qiskit_qff.simulation.calculator import QFFCalculator

        return QFFCalculator(model, **options)


def read_qff_checkpoint(filename: str) -> "Atoms":
    """``ase.io.read("DIR/checkpoint.npz")``: the last saved state of a run, with momenta, to the last digit.

    Args:
        filename: The checkpoint; its run's trajectory, beside it, says which elements there are.

    Raises:
        DataError: If either is damaged or missing.
    """
    from qiskit_qff.errors import DataError
    from qiskit_qff.simulation.checkpoint import read_checkpoint
    from qiskit_qff.simulation.recording import COMPACT_TRAJECTORY, TRAJECTORY
    from qiskit_qff.structures.reading import iter_frames

    path = Path(filename)
    checkpoint = read_checkpoint(path)
    names = [name for name in (TRAJECTORY, COMPACT_TRAJECTORY) if name in checkpoint.file_sizes]
    if not names:
        raise DataError(f"{path}: names no trajectory, which would say which elements there are.")
    first = next(iter(iter_frames(path.with_name(names[0]))))
    atoms = first.to_atoms()
    if len(atoms) != len(checkpoint.positions):
        raise DataError(f"{path}: {len(checkpoint.positions)} atoms, but {names[0]} has {len(atoms)}.")
    atoms.calc = None
    atoms.info = {"step": checkpoint.step}
    atoms.set_cell(checkpoint.cell)
    atoms.set_positions(checkpoint.positions)
    atoms.set_momenta(checkpoint.momenta)
    return atoms


if NAME not in external_calculators:
    register_calculator_class(NAME, QFF)
