"""The data set that comes with the package: lithium in MOF-5, labelled by density functional theory.

Its card, ``qiskit_qff/data/README.md``, tells how it was made, what its labels are worth and how to split it.
"""

from importlib.resources import files
from pathlib import Path

from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames


def shipped_path() -> Path:
    """Where the data set lies: extended XYZ, compressed."""
    return Path(str(files("qiskit_qff") / "data" / "limof5.extxyz.xz"))


def read_shipped() -> list[Frame]:
    """``Li4@MOF-5``, 110 atoms: PBE-D3 energies in eV, forces in eV/Å; tags such as ``replica`` and ``rattle``.

    Raises:
        DataError: if the file of the installation is damaged or missing.
    """
    return read_frames(shipped_path())
