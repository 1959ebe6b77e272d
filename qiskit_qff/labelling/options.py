"""The settings of each calculator: one YAML file, checked before any work begins.

Settings that a label depends on enter its hash, and frames of different hashes are never mixed in one file. What only
decides whether and how fast a calculation ends (``command``, ``max_scf``, ``max_outer_scf``) does not.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qiskit_qff.bounded import read_yaml
from qiskit_qff.errors import ConfigError

FINE_GRID = 600.0
"""Cutoff in Ry from which on, without smoothing, CP2K's pressure needs no caution: Li6PS5Cl has the same at 600 Ry and
1200 Ry to 0.001 GPa."""


class Options(BaseModel):
    """Settings of one calculator; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    execution: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that a label does not depend on."""

    def hashed(self, name: str) -> str:
        """Short hash of the calculator's name and of all settings that labels depend on."""
        return short_hash({"calculator": name, **self.relevant()})

    def caution(self) -> str | None:
        """What should be known of labels with these settings; None where there is nothing."""
        return None

    def relevant(self) -> dict[str, Any]:
        """All settings that labels depend on, the defaults included, as plain values."""
        return self.model_dump(mode="json", exclude=set(self.execution))


class Cp2kOptions(Options):
    """CP2K, Quickstep GPW: PBE with GTH pseudopotentials and MOLOPT basis sets at the Gamma point.

    The defaults are the recipe of the shipped Li-MOF-5 data. References: PBE, https://doi.org/10.1103/PhysRevLett.77.3865;
    D3(BJ), https://doi.org/10.1002/jcc.21759; MOLOPT, https://doi.org/10.1063/1.2770708; GTH,
    https://doi.org/10.1103/PhysRevB.54.1703; CP2K, https://doi.org/10.1063/5.0007045.
    """

    execution: ClassVar[frozenset[str]] = frozenset({"command", "max_scf", "max_outer_scf", "reuse_wavefunction"})

    dispersion: Literal["D3(BJ)", "D3", "none"] = Field(default="D3(BJ)", description="dispersion correction of PBE")
    dispersion_cutoff: float = Field(default=12.0, gt=1.0, description="its reach in Å")
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
        default=False, description="compute the stress as well; right only with smooth_xc: false and a fine grid"
    )
    max_scf: int = Field(default=18, ge=1, description="iterations of an inner SCF loop")
    max_outer_scf: int = Field(default=6, ge=1, description="restarts of the SCF with a new preconditioner")
    reuse_wavefunction: bool = Field(default=True, description="begin with the last frame of the same atoms")
    command: str | None = Field(default=None, description="how to start CP2K; default QFF_CP2K, or cp2k.psmp found")

    def caution(self) -> str | None:
        """That a coarse or smoothed grid shifts the pressure.

        CP2K strains the grid with the cell. What the energy owes to the grid then counts as pressure, which at constant
        cutoff it is not: in Li6PS5Cl +3.4 GPa of stress at 300 Ry with ``smooth_xc``, the same along every axis and
        nothing off the diagonal, to 0.01 GPa (the data card).
        """
        if not self.stress or (not self.smooth_xc and self.cutoff >= FINE_GRID):
            return None
        return (
            f"stress: true on a grid of {self.cutoff:g} Ry{' with smooth_xc' if self.smooth_xc else ''}: the pressure "
            "will be off by some GPa (3.4 in Li6PS5Cl at 300 Ry with smooth_xc), the rest of the stress will not; give "
            f"smooth_xc: false and cutoff: {FINE_GRID:g}, or label some frames so and take the mean difference off"
        )


class TbliteOptions(Options):
    """GFN1-xTB or GFN2-xTB, periodic, through tblite."""

    method: Literal["GFN1-xTB", "GFN2-xTB"] = Field(default="GFN1-xTB", description="Hamiltonian")
    accuracy: float = Field(default=1.0, gt=0.0, description="numerical thresholds; smaller is tighter")
    electronic_temperature: float = Field(default=300.0, ge=0.0, description="in K")
    charge: int = Field(default=0, description="charge of the cell in e")
    multiplicity: int | None = Field(default=None, ge=1, description="2S + 1; None: as low as possible")
    max_iterations: int = Field(default=250, ge=1, description="most SCF iterations")
    execution: ClassVar[frozenset[str]] = frozenset({"max_iterations"})


class AseOptions(Options):
    """Any calculator of ASE by its name there."""

    parameters: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the calculator")
    profile: dict[str, Any] = Field(
        default_factory=dict, description="how to start the program, for those that need it: command, pseudo_dir, ..."
    )
    execution: ClassVar[frozenset[str]] = frozenset({"profile"})


SPECIAL: dict[str, type[Options]] = {"cp2k": Cp2kOptions, "tblite": TbliteOptions}
"""Calculators with settings of their own; all others take :class:`AseOptions`."""


def read_options(name: str, path: Path | None) -> Options:
    """The settings of a calculator from a YAML file; the defaults without one.

    Raises:
        ConfigError: if the file can't be read, or a key is unknown or of the wrong type.
    """
    if path is None:
        return parse_options(name, None, where="")
    try:
        content = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"--options {path}: {error.strerror or error}. Check the path.") from None
    except ValueError as error:
        raise ConfigError(f"--options {path}: no valid YAML ({' '.join(str(error).split())[:200]}).") from None
    return parse_options(name, content, where=f"--options {path}")


def parse_options(name: str, content: Any, *, where: str) -> Options:
    """The settings of a calculator from a mapping; the defaults from None.

    Args:
        name: of the calculator.
        content: the mapping.
        where: what to call it in an error.

    Raises:
        ConfigError: if it is no mapping, or a key is unknown or of the wrong type.
    """
    kind = SPECIAL.get(name, AseOptions)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected 'key: value' lines, found {type(content).__name__}.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(error, kind)}") from None


def short_hash(value: Any) -> str:
    """``h`` and the first 16 digits of the SHA-256 of a value's JSON form.

    The letter keeps readers of extended XYZ from taking the digits for a number.
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _first_problem(error: ValidationError, kind: type[Options]) -> str:
    """The first thing that is wrong, where, and what was expected."""
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}. Known keys: {', '.join(kind.model_fields)}."
    return f"{key}: found {problem['input']!r}, but {problem['msg'][0].lower()}{problem['msg'][1:]}."
