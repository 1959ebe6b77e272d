"""The data sets that come with the package, labelled by density functional theory, and how they are named.

``limof5``, lithium in the framework MOF-5, is what ``shipped`` means wherever data are asked for; ``li6ps5cl``, the
solid electrolyte, goes by its own name. So does ``limof5_nodes``: structures of that framework, most of whose Zn4O
nodes came apart; and ``li6ps5cl_volumes``: four structures of the electrolyte at three volumes. Their card,
``qiskit_qff/data/README.md``, tells how they were made, what their labels are worth and how to split them.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

from qiskit_qff.errors import ConfigError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

DEFAULT: Final = "limof5"
"""The set that ``shipped`` stands for."""
NAMES: Final = ("limof5", "li6ps5cl", "limof5_nodes", "li6ps5cl_volumes")
"""Names of the sets; each is a file of extended XYZ, compressed."""


def is_shipped(source: str | Path) -> bool:
    """Whether a data source is the name of a shipped set, and no path; a file of that name is ``./NAME``."""
    return str(source) == "shipped" or str(source) in NAMES


def shipped_path(name: str = DEFAULT) -> Path:
    """Where a data set lies.

    Args:
        name: One of :data:`NAMES`, or ``shipped``.
    """
    if not is_shipped(name):
        raise ConfigError(f"shipped data: there is no set {name!r}. Known names: {', '.join(NAMES)}.")
    return Path(str(files("qiskit_qff") / "data" / f"{DEFAULT if name == 'shipped' else name}.extxyz.xz"))


def read_shipped(name: str = DEFAULT) -> list[Frame]:
    """The frames of a data set: PBE-D3 energies in eV, forces in eV/Å; tags such as ``replica`` and ``temperature_K``.

    Args:
        name: One of :data:`NAMES`.

    Raises:
        ConfigError: if there is no set of this name.
        DataError: if the file of the installation is damaged or missing.
    """
    return read_frames(shipped_path(name))


def read_source(source: str | Path) -> list[Frame]:
    """The frames of a shipped set, or of a file."""
    return read_shipped(str(source)) if is_shipped(source) else read_frames(source)


def seen_path(source: str | Path) -> Path:
    """The file that a source stands for."""
    return shipped_path(str(source)) if is_shipped(source) else Path(source)


def read_configured(paths: str | list[str]) -> list[Frame]:
    """The frames of a configuration's data: one source, or several one after the other."""
    return read_source(paths) if isinstance(paths, str) else read_frames([seen_path(path) for path in paths])
