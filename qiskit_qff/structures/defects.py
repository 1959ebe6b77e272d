"""What validation reports: one record per defect, and a summary of the data set."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qiskit_qff.structures.frame import Frame

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong, or looks wrong, in one place."""

    severity: Severity
    """``error``: not to be trained on as it is; ``warning``: worth a look."""
    code: str
    """Kind of defect, for example ``close-atoms``; the same word for all of a kind."""
    where: str
    """File and frame, or the file alone if the whole of it is meant."""
    atom: int | None
    """Index of the atom, counted from 0, or None if no single atom is meant."""
    message: str
    """What was found, and what would be right."""
    remedy: str
    """What to do."""

    def __str__(self) -> str:
        place = self.where if self.atom is None else f"{self.where}, atom {self.atom}"
        return f"{place}: {self.message}. {self.remedy}"


def error(code: str, frame: Frame, message: str, remedy: str, *, atom: int | None = None) -> Defect:
    """Something in a frame that must not be trained on as it is."""
    return Defect("error", code, frame.where, atom, message, remedy)


def warning(code: str, frame: Frame, message: str, remedy: str, *, atom: int | None = None) -> Defect:
    """Something in a frame that is worth a look."""
    return Defect("warning", code, frame.where, atom, message, remedy)


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest of some numbers."""

    low: float
    """Smallest."""
    middle: float
    """Median."""
    high: float
    """Largest."""


@dataclass(frozen=True)
class DataSummary:
    """What a data set consists of; ranges are None where no frame has such a label."""

    n_frames: int
    """Number of frames."""
    files: Mapping[str, int]
    """Frames per file."""
    compositions: Mapping[str, int]
    """Frames per composition, for example ``Li27P12S44``."""
    elements: Mapping[str, int]
    """Frames that contain each element."""
    periodicity: Mapping[str, int]
    """Frames per kind of periodicity, such as ``TTT`` (bulk) or ``FFF`` (molecule)."""
    tags: Mapping[str, int]
    """How many different words each tag takes that all frames carry; numbers are left out."""
    n_with_energy: int
    """Frames with an energy."""
    n_with_forces: int
    """Frames with forces."""
    n_with_stress: int
    """Frames with a stress."""
    atoms: Range | None
    """Atoms per frame."""
    energy_ev_per_atom: Range | None
    """Energy in eV/atom."""
    energy_std_mev_per_atom: float | None
    """Spread of the energy per atom about the mean of its composition, in meV/atom."""
    force_ev_per_ang: Range | None
    """Length of the force vectors, in eV/Å."""
    force_std_mev_per_ang: float | None
    """Root mean square of the force components, in meV/Å: the error of predicting zero."""
    volume_ang3_per_atom: Range | None
    """Volume of the cell in Å³/atom, of frames with three periods."""
    pressure_gpa: Range | None
    """Pressure, minus a third of the trace of the stress, in GPa."""
    shortest_distances_ang: Mapping[str, float]
    """Shortest distance found per pair of elements, in Å, for pairs closer than 1.3 times their bond length."""
    energy_force_ratio: float | None
    """Energy differences between similar frames over what the forces say, 1 if both have matching units;
    None if no two frames are similar enough to tell."""
    n_similar_pairs: int
    """Pairs of similar frames behind that ratio."""
    is_time_ordered: bool
    """Whether successive frames resemble each other far more than others do, as in a trajectory."""
    lacking_bonds: Mapping[str, str]
    """Frames that lack bonds which most others have, and which (:mod:`qiskit_qff.structures.framework`)."""


@dataclass(frozen=True)
class ValidationReport:
    """All defects of a data set and what it consists of."""

    defects: tuple[Defect, ...]
    """Errors first, then warnings, each in the order of the frames."""
    summary: DataSummary
    """What the data set consists of."""

    @property
    def errors(self) -> tuple[Defect, ...]:
        """The defects that forbid training."""
        return tuple(defect for defect in self.defects if defect.severity == "error")

    @property
    def warnings(self) -> tuple[Defect, ...]:
        """The defects that are worth a look."""
        return tuple(defect for defect in self.defects if defect.severity == "warning")

    @property
    def is_trainable(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def counts(self) -> dict[str, int]:
        """Number of defects per code, errors first."""
        return dict(Counter(defect.code for defect in self.defects))
