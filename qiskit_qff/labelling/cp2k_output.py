"""Reading the output of a CP2K single point, strictly: all of it is there and sound, or it is a failure.

CP2K ends with exit code 0 where the SCF has not converged, so every statement about convergence is looked at. Two
generations of tables are known: ``ATOMIC FORCES in [a.u.]`` up to 2024, ``FORCES| Atomic forces [hartree/bohr]`` since.
CP2K prints the pressure-like stress (positive under compression) in GPa or bar; ASE's sign is the opposite.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.labelling.labels import LabelError

HARTREE = 27.211386245988
"""eV; CODATA 2018."""
BOHR = 0.529177210903
"""Å; CODATA 2018."""
PRESSURE = {"GPa": 1.0 / 160.21766208, "bar": 1e-4 / 160.21766208}
"""eV/Å³ in one unit of what CP2K prints."""

_FLOAT = r"[-+]?\d+\.\d*(?:[ED][-+]?\d+)?"
_ENERGY = re.compile(rf"^ ENERGY\| Total FORCE_EVAL .*?:?\s+({_FLOAT})\s*$", re.MULTILINE)
_VERSION = re.compile(r"^ CP2K\| version string:\s+CP2K version (\S+)", re.MULTILINE)
_REVISION = re.compile(r"^ CP2K\| source code revision number:\s+(\S+)", re.MULTILINE)
_OLD_FORCES = re.compile(r"^ ATOMIC FORCES in \[a\.u\.\]\s*$(.*?)^ SUM OF ATOMIC FORCES", re.MULTILINE | re.DOTALL)
_NEW_FORCES = re.compile(r"^ FORCES\| Atomic forces \[hartree/bohr\]\s*$(.*?)^ FORCES\| Sum ", re.MULTILINE | re.DOTALL)
_OLD_FORCE = re.compile(rf"^\s*(\d+)\s+\d+\s+(\S+)\s+({_FLOAT})\s+({_FLOAT})\s+({_FLOAT})\s*$", re.MULTILINE)
_NEW_FORCE = re.compile(rf"^ FORCES\|\s+(\d+)\s+({_FLOAT})\s+({_FLOAT})\s+({_FLOAT})\s+{_FLOAT}\s*$", re.MULTILINE)
_STRESS = re.compile(
    r"^ STRESS\| Analytical stress tensor \[(GPa|bar)\]\s*\n.*\n"
    + "".join(rf" STRESS\|\s+{axis}\s+({_FLOAT})\s+({_FLOAT})\s+({_FLOAT})\s*\n" for axis in "xyz"),
    re.MULTILINE,
)
_MULLIKEN = re.compile(r"Mulliken Population Analysis(.*?)^ # Total charge", re.MULTILINE | re.DOTALL)
_CHARGE = re.compile(rf"^\s*\d+\s+\S+\s+\d+(?:\s+{_FLOAT})+\s*$", re.MULTILINE)
_GOOD = ("*** SCF run converged in", "outer SCF loop converged in")
_BAD = ("SCF run NOT converged", "outer SCF loop FAILED to converge")


@dataclass(frozen=True, eq=False)
class Cp2kResult:
    """What one calculation gave, in the package's units."""

    energy: float
    """In eV."""
    forces: NDArray[np.float64]
    """Shape ``(n_atoms, 3)``, in eV/Å."""
    stress: NDArray[np.float64] | None
    """Shape ``(3, 3)``, in eV/Å³, ASE's sign."""
    charges: NDArray[np.float64] | None
    """Mulliken charges in e, shape ``(n_atoms,)``."""
    version: str
    """For example ``CP2K 2023.1 git:b888bd8``."""
    n_scf: int
    """SCF iterations in all."""


def read_output(text: str, symbols: Sequence[str], *, with_stress: bool) -> Cp2kResult:
    """The results of a single point.

    Args:
        text: the whole output.
        symbols: elements in the order of the input.
        with_stress: whether a stress was asked for.

    Raises:
        LabelError: if the run did not end, did not converge, or something is missing or no number.
    """
    check_convergence(text)
    if "PROGRAM ENDED AT" not in text:
        raise LabelError("crash", f"CP2K did not end: {last_words(text)}")
    energies = _ENERGY.findall(text)
    if len(energies) != 1:
        raise LabelError("error", f"{len(energies)} total energies in the output instead of one")
    stress = _stress(text) if with_stress else None
    version = _VERSION.search(text)
    revision = _REVISION.search(text)
    words = ["CP2K", version[1] if version else "unknown", revision[1] if revision else ""]
    return Cp2kResult(
        energy=_number(energies[0]) * HARTREE,
        forces=_forces(text, symbols) * (HARTREE / BOHR),
        stress=stress,
        charges=mulliken_charges(text, len(symbols)),
        version=" ".join(word for word in words if word),
        n_scf=len(re.findall(r"^\s+\d+ OT \S+ ", text, re.MULTILINE)),
    )


def check_convergence(text: str) -> None:
    """Refuse an output whose SCF did not converge, or never ran.

    Raises:
        LabelError: if so.
    """
    for words in _BAD:
        if words in text:
            raise LabelError("not-converged", f"CP2K: {words}; raise max_scf or max_outer_scf, or check the structure")
    if not any(words in text for words in _GOOD):
        raise LabelError("crash", f"CP2K stopped before the SCF converged: {last_words(text)}")


def last_words(text: str) -> str:
    """The reason of an abort as CP2K frames it, or the last line that says anything."""
    if "[ABORT]" in text:
        lines = text[text.index("[ABORT]") :].splitlines()[1:12]
        # The drawing of a man on a rope takes the first eleven columns; the last words are the place in the source.
        framed = [line[11:].strip(" *") for line in itertools.takewhile(lambda line: "****" not in line, lines)]
        return " ".join(words for words in framed if words)
    spoken = [line.strip() for line in text.splitlines() if line.strip(" *-")]
    return spoken[-1][:200] if spoken else "no output at all"


def mulliken_charges(text: str, n_atoms: int) -> NDArray[np.float64] | None:
    """Mulliken charges in e of the last analysis in the output, shape ``(n_atoms,)``; None without one."""
    blocks = _MULLIKEN.findall(text)
    rows = _CHARGE.findall(blocks[-1]) if blocks else []
    return np.array([_number(row.split()[-1]) for row in rows]) if len(rows) == n_atoms else None


def total_energies(text: str) -> list[float]:
    """All total energies of an output in hartree, one per evaluation."""
    return [_number(word) for word in _ENERGY.findall(text)]


def _forces(text: str, symbols: Sequence[str]) -> NDArray[np.float64]:
    """Forces in hartree/bohr, shape ``(n_atoms, 3)``.

    Raises:
        LabelError: unless there is one row for every atom, in order.
    """
    old, new = _OLD_FORCES.findall(text), _NEW_FORCES.findall(text)
    if len(old) + len(new) != 1:
        raise LabelError("error", f"{len(old) + len(new)} tables of forces in the output instead of one")
    rows = _OLD_FORCE.findall(old[0]) if old else [(row[0], None, *row[1:]) for row in _NEW_FORCE.findall(new[0])]
    if [int(row[0]) for row in rows] != list(range(1, len(symbols) + 1)):
        raise LabelError("not-finite", f"{len(rows)} readable forces for {len(symbols)} atoms")
    named = [row[1] for row in rows if row[1] is not None]
    if named and named != list(symbols):
        raise LabelError("error", "the elements in the table of forces are not those of the input, in its order")
    return np.array([[_number(word) for word in row[2:]] for row in rows])


def _stress(text: str) -> NDArray[np.float64]:
    """Stress in eV/Å³ with ASE's sign.

    Raises:
        LabelError: if it is missing or no number.
    """
    found = _STRESS.findall(text)
    if len(found) != 1:
        raise LabelError("error", f"{len(found)} readable stress tensors in the output instead of one")
    unit, *entries = found[0]
    tensor = np.array([_number(word) for word in entries]).reshape(3, 3)
    stress: NDArray[np.float64] = -0.5 * (tensor + tensor.T) * PRESSURE[unit]
    return stress


def _number(word: str) -> float:
    """A Fortran number."""
    return float(word.replace("D", "E"))
