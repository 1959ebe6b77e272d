"""A structure, a model and the settings of a run become a directory that LAMMPS runs.

LAMMPS knows atoms by type: type k is the model's species k, counted from 1. It wants the first cell vector along x
and the second in the xy plane, so skewed cells are rotated into that frame on the way (ASE's ``Prism``); energies and
pressures do not change, vectors such as forces turn with it. Units are LAMMPS's ``metal``: Å, eV, ps, bar, K, g/mol.

A run that goes on from a restart file is the run that was not stopped, to rounding errors, in nve, npt and nvt with
Nosé-Hoover chains; the noise of ``temp/csvr`` (bussi) and ``langevin`` starts anew.
"""

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols
from ase.geometry import complete_cell
from ase.io.lammpsdata import write_lammps_data

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.lammps_coupling import FIX, SKIN
from qiskit_qff.simulation.lammps_run import MODEL, RESTARTS, RUN, SETUP
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.structures.species import species_index

STRUCTURE, RUNNER = "structure.data", "run.py"
FILES = (SETUP, RUN, MODEL, STRUCTURE, RUNNER)

#: Empty space around the atoms in directions without a period, in Å.
MARGIN = 10.0
_BAR = 1e5 * units.Pascal


def write_run(directory: Path, field: ForceField, atoms: Atoms, settings: MDSettings, *, fence: bool = False) -> None:
    """Write everything a run needs into an existing directory.

    Args:
        directory: Where to.
        field: The force field.
        atoms: Where the run starts.
        settings: The run.
        fence: Whether it runs within walls around the training data.

    Raises:
        ConfigError: If npt is asked of a structure that is not periodic in all directions.
        DataError: If an atom is of a species the model does not know.
    """
    species_index(atoms.numbers, field.species, where="structure")
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise ConfigError("ensemble npt needs a structure that is periodic in all three directions; use nvt or nve.")
    boxed = _with_box(atoms)
    symbols = [chemical_symbols[z] for z in field.species]
    skewed = settings.ensemble == "npt" and settings.barostat == "full"
    with (directory / STRUCTURE).open("w", encoding="ascii") as stream:
        write_lammps_data(stream, boxed, specorder=symbols, force_skew=skewed, units="metal", atom_style="atomic")
    field.save(directory / MODEL)
    (directory / SETUP).write_text(_setup(field, boxed, settings), encoding="ascii")
    (directory / RUN).write_text(_run(symbols, settings), encoding="ascii")
    (directory / RUNNER).write_text(_RUNNER.format(fence=fence), encoding="ascii")


def _with_box(atoms: Atoms) -> Atoms:
    """The atoms in a box with three vectors: LAMMPS needs some in directions without a period, too."""
    if atoms.pbc.all():
        return atoms
    boxed: Atoms = atoms.copy()
    cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    complete = complete_cell(cell)
    extent = np.ptp(atoms.positions @ np.linalg.inv(complete), axis=0) + 2.0 * MARGIN
    complete[~atoms.pbc] *= extent[~atoms.pbc, None]
    boxed.set_cell(complete)
    center = boxed.get_scaled_positions(wrap=False)[:, ~atoms.pbc].mean(axis=0)
    boxed.positions += (0.5 - center) @ complete[~atoms.pbc]
    return boxed


def _setup(field: ForceField, atoms: Atoms, settings: MDSettings) -> str:
    """Everything up to the fix that the force field is attached to."""
    boundary = " ".join("p" if periodic else "s" for periodic in atoms.pbc)
    masses = "\n".join(
        f"mass {k} {atomic_masses[z]:.6f}  # {chemical_symbols[z]}" for k, z in enumerate(field.species, start=1)
    )
    return f"""\
# Written by qff lammps; read by run.py, which then attaches model.json to the fix below.
units metal
atom_style atomic
boundary {boundary}
if "${{fresh}} == 1" then "read_data {STRUCTURE}" else "read_restart ${{restart}}"
{masses}
# No interaction of LAMMPS's own; the pair style makes ghost atoms out to the model's cutoff.
pair_style zero {field.cutoff:.10g} nocoeff
pair_coeff * *
neighbor {SKIN} bin
neigh_modify every 1 delay 0 check yes
timestep {settings.timestep_fs * 1e-3:.10g}
fix {FIX} all external pf/callback 1 1
fix_modify {FIX} energy yes virial yes
"""


def _run(symbols: list[str], settings: MDSettings) -> str:
    """Ensemble, output, restart files, and the run."""
    # LAMMPS allows seeds from 1 on.
    seed = settings.seed + 1
    first, second, end = RESTARTS
    return f"""\
# Written by qff lammps.
variable steps index {settings.steps}
variable start equal step
variable begin equal ${{start}}
log log.${{begin}}.lammps
if "${{fresh}} == 1" then "velocity all create {settings.temperature_k:.10g} {seed} mom yes rot no dist gaussian"
{_ensemble(settings, seed)}
thermo_style custom step time temp pe ke etotal econserve press vol
thermo_modify norm no flush yes
thermo {settings.interval}
dump trajectory all extxyz {settings.interval} trajectory.${{begin}}.extxyz
dump_modify trajectory element {" ".join(symbols)} sort id format line "%s{9 * " %.12g"}"
restart {settings.checkpoint_interval} {first} {second}
run ${{steps}} upto
write_restart {end}
"""


def _ensemble(settings: MDSettings, seed: int) -> str:
    """The fixes that integrate; their names stay, because restart files know their state by name."""
    kelvin = f"{settings.temperature_k:.10g}"
    relaxation = f"{settings.thermostat_time_fs * 1e-3:.10g}"
    if settings.ensemble == "nve":
        return "fix integrate all nve"
    if settings.ensemble == "npt":
        bar = f"{settings.pressure_gpa * units.GPa / _BAR:.10g}"
        style = "iso" if settings.barostat == "isotropic" else "tri"
        barostat = f"{style} {bar} {bar} {settings.barostat_time_fs * 1e-3:.10g}"
        return f"fix integrate all npt temp {kelvin} {kelvin} {relaxation} {barostat}"
    if settings.thermostat == "nose-hoover":
        return f"fix integrate all nvt temp {kelvin} {kelvin} {relaxation}"
    style, options = ("temp/csvr", "") if settings.thermostat == "bussi" else ("langevin", " zero yes tally yes")
    return f"fix integrate all nve\nfix thermostat all {style} {kelvin} {kelvin} {relaxation} {seed}{options}"


_RUNNER = '''\
"""Runs this directory with LAMMPS, on one process or, under mpiexec, on several; written by qff lammps."""

import sys
from pathlib import Path

from qiskit_qff.simulation.lammps_run import main

sys.exit(main(Path(__file__).resolve().parent, fence={fence}))
'''
