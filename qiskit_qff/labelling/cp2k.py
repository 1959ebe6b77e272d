"""CP2K through ASE's shell calculator: PBE with GTH pseudopotentials and MOLOPT basis sets at the Gamma point.

The process of CP2K lives from frame to frame, and each SCF begins with the wavefunction of the frame before. CP2K also
writes that wavefunction to the calculator's directory, where the next process begins with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, all_changes
from ase.calculators.cp2k import CP2K
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from qiskit_qff.errors import ConfigError, MissingDependencyError, parse_section

HARTREE = 27.211386245988
"""eV; CODATA 2018."""
SMOOTHING = "&XC_GRID\nXC_DERIV NN10_SMOOTH\nXC_SMOOTH_RHO NN10\n&END XC_GRID"


class Cp2kOptions(BaseModel):
    """Settings of CP2K; the defaults are the recipe of the shipped Li-MOF-5 data.

    References:
        PBE, https://doi.org/10.1103/PhysRevLett.77.3865; D3(BJ), https://doi.org/10.1002/jcc.21759; MOLOPT,
        https://doi.org/10.1063/1.2770708; GTH, https://doi.org/10.1103/PhysRevB.54.1703; CP2K,
        https://doi.org/10.1063/5.0007045
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    execution: ClassVar[frozenset[str]] = frozenset({"max_scf", "max_outer_scf"})
    """Settings that only decide whether and how fast a calculation ends; labels do not depend on them."""

    dispersion: Literal["D3(BJ)", "D3", "none"] = Field(default="D3(BJ)", description="dispersion correction of PBE")
    dispersion_cutoff: float = Field(default=12.0, gt=1.0, description="its cutoff in Å")
    basis: str = Field(default="DZVP-MOLOPT-SR-GTH", description="basis set of all elements")
    basis_of: dict[str, str] = Field(default_factory=dict, description="other basis sets, by element")
    basis_files: tuple[str, ...] = Field(default=("BASIS_MOLOPT",), description="files that hold the basis sets")
    valence_of: dict[str, int] = Field(
        default_factory=dict, description="valence electrons of the pseudopotential, by element, where not the usual"
    )
    cutoff: float = Field(default=300.0, gt=10.0, description="plane-wave cutoff of the density in Ry")
    relative_cutoff: float = Field(default=30.0, gt=1.0, description="REL_CUTOFF in Ry")
    n_grids: int = Field(default=5, ge=1, description="multi-grid levels")
    smooth_xc: bool = Field(default=True, description="NN10 smoothing of the density for XC: less grid noise")
    eps_default: float = Field(default=1e-8, gt=0.0, description="EPS_DEFAULT")
    eps_scf: float = Field(default=5e-6, gt=0.0, description="convergence of the wavefunction")
    energy_gap: float = Field(default=0.001, gt=0.0, description="gap that the OT preconditioner assumes, hartree")
    charge: int = Field(default=0, description="charge of the cell in e")
    multiplicity: int | None = Field(
        default=None, ge=1, description="2S + 1; None: 1 for an even number of electrons, else 2 with spin polarisation"
    )
    stress: bool = Field(
        default=False,
        description="compute the stress as well; its pressure is right only with smooth_xc: false and cutoff: 600",
    )
    max_scf: int = Field(default=18, ge=1, description="iterations of an inner SCF loop")
    max_outer_scf: int = Field(default=6, ge=1, description="restarts of the SCF with a new preconditioner")

    @classmethod
    def parse(cls, content: Any, *, where: str) -> Cp2kOptions:
        """The settings from a mapping."""
        found: Cp2kOptions = parse_section(cls, content, where=where)
        return found

    @property
    def level(self) -> str:
        """The level of theory in a few words."""
        dispersion = "" if self.dispersion == "none" else f"-{self.dispersion}"
        return f"PBE{dispersion}/{self.basis} {self.cutoff:g} Ry"

    def recipe(self, symbols: Sequence[str]) -> str:
        """The CP2K input without cell and coordinates, which ASE adds."""
        # GTH pseudopotentials have closed-shell cores: valence electrons are as even or odd as all electrons.
        electrons = int(Atoms(symbols).numbers.sum()) - self.charge
        multiplicity = self.multiplicity or 1 + electrons % 2
        dispersion = (
            "&VDW_POTENTIAL\nPOTENTIAL_TYPE PAIR_POTENTIAL\n&PAIR_POTENTIAL\n"
            f"TYPE DFT{self.dispersion}\nPARAMETER_FILE_NAME dftd3.dat\nREFERENCE_FUNCTIONAL PBE\n"
            f"R_CUTOFF {self.dispersion_cutoff:g}\n&END PAIR_POTENTIAL\n&END VDW_POTENTIAL"
        )
        parts = {
            "basis_files": "\n".join(f"BASIS_SET_FILE_NAME {name}" for name in self.basis_files),
            "stress": "STRESS_TENSOR ANALYTICAL" if self.stress else "",
            "multiplicity": multiplicity,
            "spin": "UKS T" if multiplicity > 1 else "",
            "smoothing": SMOOTHING if self.smooth_xc else "",
            "dispersion": "" if self.dispersion == "none" else dispersion,
            "kinds": "\n".join(
                f"&KIND {symbol}\nBASIS_SET {self.basis_of.get(symbol, self.basis)}\n"
                f"POTENTIAL GTH-PBE{f'-q{self.valence_of[symbol]}' if symbol in self.valence_of else ''}\n&END KIND"
                for symbol in dict.fromkeys(symbols)
            ),
        }
        template = files("qiskit_qff.labelling").joinpath("cp2k.inp").read_text(encoding="utf-8")
        return template.format(**(self.model_dump() | parts))


class Cp2k(CP2K):
    """ASE's calculator with the recipe of :class:`Cp2kOptions`, in a directory of its own."""

    _shell: Any = None  # so that ASE's __del__ finds it also if there is no CP2K

    def __init__(self, options: Cp2kOptions, directory: Path) -> None:
        """Start CP2K."""
        self._options = options
        self._folder = directory
        self.version = ""
        found = shutil.which("cp2k.psmp") or shutil.which("cp2k.ssmp")
        command = os.environ.get("ASE_CP2K_COMMAND") or (f"{shlex.quote(found)} -s" if found else None)
        if command is None:
            raise MissingDependencyError(
                "CP2K is not installed: neither cp2k.psmp nor cp2k.ssmp was found. On Debian: apt-get install cp2k "
                "cp2k-data. Or name the command: ASE_CP2K_COMMAND='mpiexec -n 4 cp2k.psmp -s'."
            )
        own = ("basis_set", "basis_set_file", "cutoff", "force_eval_method", "max_scf", "poisson_solver",
               "potential_file", "print_level", "pseudo_potential", "xc")  # fmt: skip
        try:
            shell = f"cd {shlex.quote(str(directory))} && exec {command}"
            super().__init__(command=shell, stress_tensor=False, **dict.fromkeys(own))
        except (AssertionError, BrokenPipeError, RuntimeError) as error:  # what ASE raises without an answer
            raise ConfigError(f"CP2K command {command!r} does not start CP2K's shell ({error}).") from None
        if not options.stress:
            self.implemented_properties = [name for name in self.implemented_properties if name != "stress"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energy, forces, stress if asked for, and Mulliken charges; ASE calls this."""
        if atoms is None or not atoms.pbc.all():
            # Anything else needs another Poisson solver, with boxes and grids that this recipe does not know.
            raise CalculationFailed("this CP2K recipe needs three periodic directions; give the frame a large cell")
        symbols = atoms.get_chemical_symbols()
        if "numbers" in system_changes:
            self.label = "cp2k-" + hashlib.sha256(" ".join(symbols).encode()).hexdigest()[:8]
        wavefunction = self._folder / f"{self.label}-RESTART.wfn"
        self.parameters["inp"] = self._options.recipe(symbols)
        while True:
            is_warm = wavefunction.exists()
            try:
                self._evaluate(atoms, properties, system_changes)
            except CalculationFailed:
                self._stop()
                wavefunction.unlink(missing_ok=True)
                # The wavefunction of a distant geometry may trap the minimiser; superposed atoms may not.
                if not is_warm:
                    raise
            else:
                return

    def _stop(self) -> None:
        """End CP2K; the next calculation starts it again."""
        if self._shell is not None:
            self._shell.isready = False  # else a process that has died is asked to leave
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it is stopped by a signal
            self.close()

    def _evaluate(self, atoms: Atoms, properties: list[str] | None, system_changes: list[str]) -> None:
        """One calculation."""
        output, charges = self._folder / f"{self.label}.out", self._folder / "mulliken"
        start = output.stat().st_size if output.exists() else 0
        charges.unlink(missing_ok=True)
        try:
            super().calculate(atoms, properties, system_changes)
        except (AssertionError, OSError, ValueError) as error:
            # ASE raises these where CP2K answers something else than expected, or nothing because it has stopped.
            raise CalculationFailed(f"CP2K: {_last_words(_tail(output, start))}") from error
        printed = _tail(output, start)
        # CP2K up to 2023 goes on after this warning, which it forces to disk at once; later releases stop.
        if "SCF run NOT converged" in printed:
            raise CalculationFailed(
                "CP2K: SCF run NOT converged; raise max_scf or max_outer_scf, or check the structure"
            )
        # The shell's eV is that of CODATA 2006: 1.7 meV off in a cell of 108 atoms.
        self._shell.send("UNITS_AU")
        self._shell.expect("* READY")
        self._shell.send(f"GET_E {self._force_env_id}")
        self.results["energy"] = self.results["free_energy"] = HARTREE * float(self._shell.recv())
        self._shell.expect("* READY")
        if not self._options.stress:
            del self.results["stress"]
        self.results["charges"] = mulliken_charges(charges.read_text(encoding="utf-8"))
        self.results["scf_iterations"] = len(re.findall(r"^\s+\d+ OT \S+ ", printed, re.MULTILINE))
        if told := re.search(r"CP2K version (\S+)", printed):
            self.version = told[1]


def _tail(path: Path, start: int) -> str:
    """What was added to a file."""
    return path.read_bytes()[start:].decode("utf-8", errors="replace") if path.exists() else ""


def _last_words(text: str) -> str:
    """The reason of an abort, or the last line that says anything."""
    lines = [words for line in text.splitlines() if (words := line.strip(" *-"))] or ["stopped without a word"]
    begin = next((n for n, line in enumerate(lines) if "[ABORT]" in line), len(lines) - 1)
    return " ".join(lines[begin:])[:300]


def mulliken_charges(text: str) -> NDArray[np.float64]:
    """Mulliken charges in e, shape ``(n_atoms,)``."""
    rows = [line.split() for line in text.splitlines() if re.match(r"\s+\d+\s+[A-Z]", line)]
    return np.array([float(row[4] if len(row) == 5 else row[5]) for row in rows])
