"""The CP2K input for one frame: energy, forces and, where asked for, stress by PBE in a Gaussian and plane-wave basis.

The text depends on the structure and the options alone, not on machine or directory, so its hash identifies the
calculation; the wavefunction to begin with always has the same name beside it.
"""

from collections.abc import Sequence

from qiskit_qff.labelling.labels import LabelError
from qiskit_qff.labelling.options import Cp2kOptions
from qiskit_qff.structures.frame import Frame

PROJECT = "label"
PREVIOUS = "previous.wfn"
"""The wavefunction to begin with, where there is one."""

# Valence electrons of the elements that have both a GTH-PBE pseudopotential and a DZVP-MOLOPT-SR-GTH basis in CP2K's
# data files; the number is part of the pseudopotential's name.
VALENCE: dict[str, int] = {
    "H": 1, "He": 2, "Li": 3, "Be": 4, "B": 3, "C": 4, "N": 5, "O": 6, "F": 7, "Ne": 8, "Na": 9, "Mg": 10, "Al": 3,
    "Si": 4, "P": 5, "S": 6, "Cl": 7, "Ar": 8, "K": 9, "Ca": 10, "Sc": 11, "Ti": 12, "V": 13, "Cr": 14, "Mn": 15,
    "Fe": 16, "Co": 17, "Ni": 18, "Cu": 11, "Zn": 12, "Ga": 13, "Ge": 4, "As": 5, "Se": 6, "Br": 7, "Kr": 8, "Rb": 9,
    "Sr": 10, "Y": 11, "Zr": 12, "Nb": 13, "Mo": 14, "Tc": 15, "Ru": 16, "Rh": 17, "Pd": 18, "Ag": 11, "Cd": 12,
    "In": 13, "Sn": 4, "Sb": 5, "Te": 6, "I": 7, "Xe": 8, "Cs": 9, "Ba": 10, "Hf": 12, "Ta": 13, "W": 14, "Re": 15,
    "Os": 16, "Ir": 17, "Pt": 18, "Au": 11, "Hg": 12, "Tl": 13, "Pb": 4, "Bi": 5, "Po": 6, "At": 7, "Rn": 8,
}  # fmt: skip


def valence_electrons(symbols: Sequence[str], options: Cp2kOptions) -> int:
    """Number of electrons in the calculation.

    Raises:
        LabelError: if the pseudopotential of an element is not known.
    """
    return sum(_valence(symbol, options) for symbol in symbols) - options.charge


def cp2k_input(frame: Frame, options: Cp2kOptions, *, from_previous: bool) -> str:
    """The input text.

    Args:
        frame: periodic in all directions.
        options: settings.
        from_previous: begin with the wavefunction in :data:`PREVIOUS` instead of the superposed atoms.

    Raises:
        LabelError: if the structure is not periodic, holds an element without the usual basis, or can't have the
            multiplicity with its electrons.
    """
    sections = (
        ("GLOBAL", [f"PROJECT {PROJECT}", "RUN_TYPE ENERGY_FORCE", "PRINT_LEVEL LOW", "PREFERRED_DIAG_LIBRARY SL"]),
        ("FORCE_EVAL", _force_eval(frame, options, from_previous=from_previous)),
    )
    return "\n".join(line for name, body in sections for line in _section(name, body)) + "\n"


def _section(name: str, body: Sequence[str]) -> list[str]:
    """Lines of a section, its content indented; ``name`` may carry the section's parameter."""
    return [f"&{name}", *(f"  {line}" for line in body), f"&END {name.split(maxsplit=1)[0]}"]


def _force_eval(frame: Frame, options: Cp2kOptions, *, from_previous: bool) -> list[str]:
    """The method and the system."""
    printed = _section("FORCES ON", ["NDIGITS 12"])
    head = ["METHOD QUICKSTEP"]
    if options.stress:
        head.append("STRESS_TENSOR ANALYTICAL")
        printed += _section("STRESS_TENSOR ON", [])
    dft = _section("DFT", _dft(frame, options, from_previous=from_previous))
    return [*head, *_section("PRINT", printed), *dft, *_section("SUBSYS", _subsystem(frame, options))]


def _dft(frame: Frame, options: Cp2kOptions, *, from_previous: bool) -> list[str]:
    """Basis, grids, SCF and functional."""
    grid = [f"CUTOFF {options.cutoff:g}", f"REL_CUTOFF {options.relative_cutoff:g}", f"NGRIDS {options.n_grids}"]
    return [
        *(f"BASIS_SET_FILE_NAME {name}" for name in options.basis_files),
        "POTENTIAL_FILE_NAME GTH_POTENTIALS",
        *([f"WFN_RESTART_FILE_NAME {PREVIOUS}"] if from_previous else []),
        f"CHARGE {options.charge}",
        *_spin(frame, options),
        *_section("MGRID", grid),
        *_section("QS", ["METHOD GPW", f"EPS_DEFAULT {options.eps_default:.1E}"]),
        *_section("SCF", _scf(options, from_previous=from_previous)),
        *_section("PRINT", _section("MULLIKEN ON", [])),
        *_section("XC", _functional(options)),
    ]


def _spin(frame: Frame, options: Cp2kOptions) -> list[str]:
    """Multiplicity, and spin polarisation where it is not 1.

    Raises:
        LabelError: if the number of electrons can't have it.
    """
    electrons = valence_electrons(frame.symbols, options)
    multiplicity = options.multiplicity or 1 + electrons % 2
    if (electrons + multiplicity) % 2 == 0:
        raise LabelError(
            "error", f"multiplicity {multiplicity} is impossible for {electrons} electrons; set multiplicity or charge"
        )
    return [f"MULTIPLICITY {multiplicity}", *(["UKS T"] if multiplicity > 1 else [])]


def _scf(options: Cp2kOptions, *, from_previous: bool) -> list[str]:
    """Orbital transformation with DIIS, and an outer loop that renews the preconditioner."""
    orbital = ["MINIMIZER DIIS", "PRECONDITIONER FULL_ALL", f"ENERGY_GAP {options.energy_gap:g}"]
    outer = [f"MAX_SCF {options.max_outer_scf}", f"EPS_SCF {options.eps_scf:.1E}"]
    restart = _section("RESTART", ["BACKUP_COPIES 0"])
    return [
        f"SCF_GUESS {'RESTART' if from_previous else 'ATOMIC'}",
        f"EPS_SCF {options.eps_scf:.1E}",
        f"MAX_SCF {options.max_scf}",
        *_section("OT", orbital),
        *_section("OUTER_SCF", outer),
        *_section("PRINT", [*restart, *_section("RESTART_HISTORY OFF", [])]),
    ]


def _functional(options: Cp2kOptions) -> list[str]:
    """PBE, its grid, and the dispersion correction."""
    lines = _section("XC_FUNCTIONAL PBE", [])
    if options.smooth_xc:
        lines += _section("XC_GRID", ["XC_DERIV NN10_SMOOTH", "XC_SMOOTH_RHO NN10"])
    if options.dispersion != "none":
        pairs = [
            f"TYPE DFT{options.dispersion}",
            "PARAMETER_FILE_NAME dftd3.dat",
            "REFERENCE_FUNCTIONAL PBE",
            f"R_CUTOFF {options.dispersion_cutoff:g}",
        ]
        lines += _section("VDW_POTENTIAL", ["POTENTIAL_TYPE PAIR_POTENTIAL", *_section("PAIR_POTENTIAL", pairs)])
    return lines


def _subsystem(frame: Frame, options: Cp2kOptions) -> list[str]:
    """Cell, coordinates, and basis and pseudopotential of every element.

    Raises:
        LabelError: if there are not three periods.
    """
    if not frame.pbc.all():
        # Anything else needs another Poisson solver, whose boxes and grids this recipe does not know.
        raise LabelError(
            "error", "this CP2K recipe is for three periods; give the frame a cell wide enough and periods"
        )
    cell = [f"{name} {' '.join(f'{entry:.10f}' for entry in row)}" for name, row in zip("ABC", frame.cell, strict=True)]
    symbols = frame.symbols
    places = [
        f"{symbol} {' '.join(f'{x:.10f}' for x in row)}" for symbol, row in zip(symbols, frame.positions, strict=True)
    ]
    kinds = [
        line
        for symbol in dict.fromkeys(symbols)
        for line in _section(
            f"KIND {symbol}",
            [
                f"BASIS_SET {options.basis_of.get(symbol, options.basis)}",
                f"POTENTIAL GTH-PBE-q{_valence(symbol, options)}",
            ],
        )
    ]
    return [*_section("CELL", cell), *_section("COORD", places), *kinds]


def _valence(symbol: str, options: Cp2kOptions) -> int:
    """Valence electrons of an element's pseudopotential.

    Raises:
        LabelError: if there is no usual one.
    """
    valence = options.valence_of.get(symbol, VALENCE.get(symbol))
    if valence is None:
        raise LabelError(
            "error",
            f"no usual GTH-PBE pseudopotential with a MOLOPT-SR basis for {symbol}; name both in the options: "
            f"valence_of {{{symbol}: ...}}, basis_of {{{symbol}: ...}}",
        )
    return valence
