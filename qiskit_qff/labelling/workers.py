"""Worker processes that may crash or hang: the frame at hand fails, and a new worker takes the next one."""

import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.cp2k import Cp2k
from qiskit_qff.labelling.reference import Reference, works_in_files
from qiskit_qff.structures.frame import Frame, Tag
from qiskit_qff.structures.labels import symmetric_tensor

Task = tuple[int, Frame, str]
"""Number, frame and id of a frame to label."""
START_SECONDS = 600.0
"""A worker that is not ready by then never will be; a foundation model takes its time."""
LOG = "worker.log"
ATOM_RESULTS = ("charges", "magmoms")
"""Further results per atom that are kept where a calculator gives them, under ASE's names."""


@dataclass(frozen=True, eq=False)
class Label:
    """The result of one calculation."""

    energy: float
    """Total energy in eV, extrapolated to zero smearing where the program does that."""
    forces: FloatArray
    """Shape ``(n_atoms, 3)``, in eV/Å."""
    stress: FloatArray | None
    """Symmetric, shape ``(3, 3)``, in eV/Å³, ASE's sign; None where there is none."""
    version: str
    """Program or package and version, for example ``Cp2k 2023.1 (qiskit_qff 0.1.0)``."""
    per_atom: Mapping[str, FloatArray] = field(default_factory=dict)
    """Charges and magnetic moments, where the calculator gives them."""
    tags: Mapping[str, Tag] = field(default_factory=dict)
    """Further numbers worth keeping."""
    seconds: float = 0.0
    """How long it took."""


def outcomes(
    reference: Reference,
    tasks: deque[Task],
    directory: Path,
    *,
    workers: int,
    threads: int,
    timeout: float | None,
) -> Generator[tuple[int, Label | str, float], None, None]:
    """Label frames; gives number, label or reason of failure, and seconds, in the order in which they end.

    Raises:
        QFFError: if the calculator can't start.
    """
    crew = [_Worker(reference, directory / f"worker-{number}", threads, timeout) for number in range(workers)]
    try:
        while crew:
            patience = min(worker.seconds_left for worker in crew)
            wait([w.future for w in crew], None if math.isinf(patience) else patience, return_when=FIRST_COMPLETED)
            for worker in tuple(crew):
                if not worker.future.done() and worker.seconds_left > 0.0:
                    continue
                index, seconds, outcome = worker.index, time.monotonic() - worker.began, worker.outcome()
                if not worker.is_dead and tasks:
                    worker.give(*tasks.popleft())
                else:
                    if worker.is_dead and index is None:
                        raise ConfigError(f"a worker process can't start: {outcome}.")
                    worker.stop()
                    crew.remove(worker)
                    if tasks:
                        crew.append(_Worker(reference, worker.directory, threads, timeout))
                if index is not None and outcome is not None:
                    yield index, outcome, seconds
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A process that labels: the only one of its executor, so that it can be ended and replaced without the others."""

    def __init__(self, reference: Reference, directory: Path, threads: int, timeout: float | None) -> None:
        """Begin to start it.

        Args:
            reference: the calculator.
            directory: to work in; what is kept there outlives the process.
            threads: of the program.
            timeout: seconds that a frame may take.
        """
        others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.future: Future[Label | str | None] = self._pool.submit(_start, reference, directory, threads)
        (self._process,) = set(multiprocessing.active_children()) - others
        self._timeout = timeout
        self.directory = directory
        self.index: int | None = None
        """Number of the frame at hand; None while the process starts."""
        self.began = time.monotonic()
        self.is_dead = False

    @property
    def seconds_left(self) -> float:
        """Until the time limit of what it does; negative beyond."""
        limit = START_SECONDS if self.index is None else self._timeout
        return math.inf if limit is None else self.began + limit - time.monotonic()

    def give(self, index: int, frame: Frame, key: str) -> None:
        """Give it a frame."""
        self.index, self.began = index, time.monotonic()
        self.future = self._pool.submit(_label, frame, key)

    def outcome(self) -> Label | str | None:
        """What has become of the frame: the label, or why there is none; None for the start.

        Raises:
            QFFError: if the calculator can't start.
        """
        if not self.future.done():
            self.stop()
            return f"time limit: not done after {time.monotonic() - self.began:.3g} s"
        try:
            return self.future.result()
        except BrokenProcessPool:
            self.stop()
        code = self._process.exitcode
        log = self.directory / LOG
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        last = [line.strip()[:200] for line in lines if line.strip()][-1:]
        by = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return f"crash: the worker process died ({': '.join([by, *last])})"

    def stop(self) -> None:
        """End the process and the programs that it started, also if it has died by itself."""
        if self.is_dead:
            return
        self.is_dead = True
        assert self._process.pid is not None
        with suppress(ProcessLookupError):  # it has no group of its own before os.setsid()
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(timeout=10.0)
        self._pool.shutdown(cancel_futures=True)


_STATE: dict[str, Any] = {}
"""What a worker process keeps from frame to frame; empty everywhere else."""


def _start(reference: Reference, directory: Path, threads: int) -> None:
    """Make this process a worker.

    It leads a process group of its own, so that a Ctrl-C in the terminal reaches the parent alone, and so that the
    programs it starts can be stopped with it.

    Raises:
        QFFError: if the calculator can't start.
    """
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    directory.mkdir(parents=True, exist_ok=True)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    _STATE.update(reference=reference, directory=directory, calculator=reference.start(directory))


def _die_with_parent() -> None:
    """Stop this process group when the parent has ended, also by ``kill -9``."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _label(frame: Frame, key: str) -> Label | str:
    """The label of a frame, or why there is none; in a worker.

    A calculator that lives in this process is kept for the next frame, CP2K with its wavefunction. One that starts a
    program is made anew, with a directory for each frame, which stays if the frame fails.
    """
    began = time.monotonic()
    place = _STATE["directory"].parent / key
    try:
        calculator = _STATE.pop("calculator", None) or _STATE["reference"].make(_STATE["directory"])
        in_files = works_in_files(calculator)
        if in_files:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            calculator.directory = place
        elif not isinstance(calculator, Cp2k) and hasattr(calculator, "reset"):
            calculator.reset()  # else neighbour lists and guesses of earlier frames decide the last digits
        label = single_point(calculator, frame)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - programs fail in their own ways; the message is kept
        traceback.print_exc()
        words = " ".join(str(error).split())[:500]
        return words if isinstance(error, CalculationFailed) and words else f"{type(error).__name__}: {words}"
    if in_files:
        shutil.rmtree(place)
    else:
        _STATE["calculator"] = calculator
    return replace(label, seconds=time.monotonic() - began)


def single_point(calculator: Any, frame: Frame) -> Label:
    """Energy, forces and, with three periods and a calculator that has it, stress of one frame.

    Args:
        calculator: an ASE calculator.
        frame: the structure.

    Raises:
        CalculationFailed: if the calculator says that it did not converge, or something is not finite.
    """
    atoms = Atoms(
        numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=calculator
    )
    energy = float(atoms.get_potential_energy())
    forces = np.array(atoms.get_forces(), dtype=np.float64)
    stress = None
    if frame.pbc.all() and "stress" in calculator.implemented_properties:
        stress = symmetric_tensor(atoms.get_stress(), name="stress", where="the calculator")
    if getattr(calculator, "converged", None) is False:  # ASE's VASP says so and raises nothing
        raise CalculationFailed("the calculation did not converge")
    for name, values in (("energy", energy), ("forces", forces), ("stress", 0.0 if stress is None else stress)):
        if not np.isfinite(values).all():
            wrong = np.argwhere(~np.isfinite(np.atleast_2d(values)))[0][0]
            raise CalculationFailed(f"{name} not finite{f' on atom {wrong}' if name == 'forces' else ''}")
    results = calculator.results
    return Label(
        energy=energy,
        forces=forces,
        stress=stress,
        version=_version(calculator),
        per_atom={name: np.array(results[name], dtype=np.float64) for name in ATOM_RESULTS if name in results},
        tags={"label_scf_iterations": results["scf_iterations"]} if "scf_iterations" in results else {},
    )


def _version(calculator: Any) -> str:
    """Program or package and version."""
    own = getattr(calculator, "version", None)
    if own is None and hasattr(getattr(calculator, "profile", None), "version"):
        with suppress(OSError, subprocess.SubprocessError, AttributeError):  # it is a program even if it does not say
            own = calculator.profile.version()
    package = type(calculator).__module__.partition(".")[0]
    with suppress(PackageNotFoundError):
        package = f"{package} {getattr(sys.modules[package], '__version__', None) or version(package)}"
    return f"{type(calculator).__name__} {own} ({package})" if own else f"{type(calculator).__name__} ({package})"
