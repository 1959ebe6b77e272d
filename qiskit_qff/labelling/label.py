"""Labels structures one by one in worker processes: what is done stays, and failures are kept apart with their reason.

A frame is known by a hash of its atoms and cell, so frames may be added or reordered between runs, and one given twice
is labelled once. A file belongs to one set of settings: energies of different ones are never mixed. A calculator that
crashes or hangs costs its frame; a new worker takes the next one.
"""

import hashlib
import io
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from subprocess import SubprocessError
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, CalculatorSetupError
from ase.io.extxyz import key_val_str_to_dict, write_xyz

from qiskit_qff import __version__
from qiskit_qff.durable import GrowingFile, write_atomically
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.cp2k import Cp2k
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.structures.frame import Frame, Tag, symmetric_tensor

DIGITS = 8
"""Decimals of a position in Å that the file keeps; frames are labelled as they are written."""
FAILURES = (RuntimeError, OSError, ValueError, LookupError, ArithmeticError, SubprocessError)
"""What a calculator raises for a structure that it can't compute: RuntimeError includes ASE's own errors; its parsers
raise ValueError and LookupError for output that was cut short. Anything else is a bug and keeps its traceback."""
START_SECONDS = 600.0
"""A worker that is not ready by then never will be; a foundation model takes its time."""
LOG = "worker.log"
ATOM_RESULTS = ("charges", "magmoms")
"""Further results per atom that are kept where a calculator gives them, under ASE's names."""


@dataclass(frozen=True)
class LabelReport:
    """What became of the frames."""

    n_frames: int  # without repeated ones
    n_labelled: int  # in this run
    n_kept: int  # labelled before
    failures: tuple[dict[str, Any], ...]  # ``index``, ``source`` and ``reason``, also of earlier runs
    seconds: tuple[float, ...]  # that each frame labelled in this run took


def failures_path(out: Path) -> Path:
    """The file beside the labels that holds the frames that failed."""
    return out.with_name(f"{out.stem}.failures.extxyz")


def work_path(out: Path) -> Path:
    """The directory beside the labels in which programs work; it keeps failed calculations and wavefunctions."""
    return out.with_name(f".{out.name}.work")


def settings_path(out: Path) -> Path:
    """The file beside the labels with all settings that they depend on, defaults included."""
    return out.with_name(f"{out.stem}.settings.yaml")


def frame_id(frame: Frame) -> str:
    """Hash of elements, positions, cell and periods: ``h`` and 16 hexadecimal digits."""
    numbers = (
        frame.numbers.astype(np.int64),
        np.round(frame.positions * 10.0**DIGITS).astype(np.int64),
        np.round(frame.cell * 10.0**DIGITS).astype(np.int64),
        frame.pbc.astype(np.int64),
    )
    return "h" + hashlib.sha256(b"".join(array.tobytes() for array in numbers)).hexdigest()[:16]


def as_text(atoms: Atoms) -> str:
    """One frame as extended XYZ."""
    stream = io.StringIO()
    write_xyz(stream, [atoms])
    return stream.getvalue()


class LabelFile:
    """A file of extended XYZ that grows frame by frame, for one process at a time, and survives a kill."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self.path = path
        self.headers: dict[str, dict[str, Any]] = {}
        """Key-value pairs of each frame, by its id."""
        self._texts: dict[str, bytes] = {}
        self._file = GrowingFile(path, self._read)

    def append(self, atoms: Atoms) -> None:
        """Write one frame and force it to disk."""
        text = as_text(atoms).encode()
        self._file.append(text)
        self._take(text)

    def keep(self, order: Sequence[str]) -> None:
        """Keep these frames in this order; the file is the old or the new one at any moment."""
        content = b"".join(self._texts[key] for key in order)
        if content != self.path.read_bytes():
            write_atomically(self.path, content)
        if not content:
            self.path.unlink()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, text: bytes) -> None:
        header = key_val_str_to_dict(text.split(b"\n", 2)[1].decode("utf-8", errors="replace"))
        if "label_id" not in header:
            raise DataError(f"{self.path}: holds frames that are no labels of qff. Name another --out.")
        key = str(header["label_id"])
        self.headers[key], self._texts[key] = header, text

    def _read(self, content: bytes) -> int:
        """Take in the whole frames and give their length in bytes."""
        lines, size = content.splitlines(keepends=True), 0
        begin = 0
        while begin < len(lines) and lines[begin].endswith(b"\n"):
            head = lines[begin]
            if not head.strip().isdigit() or len(head) > 12:  # no number of atoms is longer
                raise DataError(
                    f"{self.path}: expected a number of atoms, found {head[:40]!r}: this is no file of extended XYZ, "
                    "so nothing is appended to it. Name another --out."
                )
            block = lines[begin : begin + int(head) + 2]
            if len(block) < int(head) + 2 or not block[-1].endswith(b"\n"):
                break
            text = b"".join(block)
            self._take(text)
            size, begin = size + len(text), begin + len(block)
        return size


def label_frames(
    frames: Sequence[Frame],
    reference: Reference,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    timeout: float | None = None,
    retry_failed: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> LabelReport:
    """Label what is not labelled yet, and write it to a file, its settings beside it.

    Args:
        timeout: seconds that one frame may take; None for any.
        progress: takes the number of frames done, of those failed, and of all.
    """
    given: dict[str, tuple[int, Frame]] = {}
    for n, frame in enumerate(frames):
        rounded = replace(frame, positions=np.round(frame.positions, DIGITS))
        given.setdefault(frame_id(rounded), (n, rounded))
    with ExitStack() as stack:
        done, failed = (stack.enter_context(closing(LabelFile(path))) for path in (out, failures_path(out)))
        _ensure_same_settings(done, reference)
        have = given.keys() & done.headers.keys()
        tasks = {key: frame for key, (_, frame) in given.items() if key not in have}
        if not retry_failed:
            tasks = {key: frame for key, frame in tasks.items() if key not in failed.headers}
        if tasks and not done.headers:
            head = f"# Settings of {out.name}: --calculator {reference.name}, hash {reference.settings_hash}\n"
            text = yaml.safe_dump(dict(reference.settings), sort_keys=False, allow_unicode=True)
            write_atomically(settings_path(out), head + text)
        crew = [
            _Worker(reference, work_path(out) / f"worker-{number}", threads, timeout)
            for number in range(min(workers, len(tasks)))
        ]
        seconds: list[float] = []
        for n, (key, outcome, took) in enumerate(stack.enter_context(closing(_outcomes(crew, tasks))), start=1):
            atoms = outcome if isinstance(outcome, Atoms) else _unlabelled(tasks[key]).to_atoms()
            tags: dict[str, Tag] = {
                "label_calculator": reference.name,
                "label_level": reference.level,
                "label_settings": reference.settings_hash,
                "label_source": f"{Path(tasks[key].source).name} frame {tasks[key].index}".strip(),
                "label_id": key,
                "label_qff": __version__,
                "label_wall_s": round(took, 3),
            }
            atoms.info |= tags
            if isinstance(outcome, Atoms):
                atoms.info["label_finished"] = datetime.now(UTC).isoformat(timespec="seconds")
                done.append(atoms)
                seconds.append(took)
            else:
                atoms.info["failure"] = outcome
                failed.append(atoms)
            if progress is not None:
                progress(n, n - len(seconds), len(tasks))
        # Labels get the order of the frames; failures that were made good or repeated are dropped.
        done.keep(sorted(done.headers, key=lambda key: given[key][0] if key in given else len(frames)))
        still = [key for key in failed.headers if key not in done.headers]
        failed.keep(still)
        if not still:
            shutil.rmtree(work_path(out), ignore_errors=True)
    failures = [(given[key][0], failed.headers[key]) for key in given if key in still]
    return LabelReport(
        n_frames=len(given),
        n_labelled=len(seconds),
        n_kept=len(have),
        failures=tuple(
            {"index": n, "source": str(header["label_source"]), "reason": str(header["failure"])}
            for n, header in failures
        ),
        seconds=tuple(seconds),
    )


def _ensure_same_settings(file: LabelFile, reference: Reference) -> None:
    """Refuse to mix labels of different settings."""
    for header in file.headers.values():
        found, level = header.get("label_settings"), header.get("label_level")
        if found != reference.settings_hash:
            raise ConfigError(
                f"{file.path}: was labelled with other settings ({level}; hash {found}) than asked for "
                f"({reference.level}; hash {reference.settings_hash}). Energies of both must not be mixed: use the "
                "same --calculator and --options, or another --out."
            )


def _unlabelled(frame: Frame) -> Frame:
    """The structure with its own tags, without an earlier label and what was said of it."""
    own = {name: tag for name, tag in frame.tags.items() if not name.startswith(("label_", "failure"))}
    return replace(frame, energy=None, forces=None, stress=None, tags=own)


# --- worker processes -------------------------------------------------------------------------------------------------


def _outcomes(
    crew: Sequence["_Worker"], tasks: Mapping[str, Frame]
) -> Generator[tuple[str, Atoms | str, float], None, None]:
    """Id, labelled frame or reason of failure, and seconds of each task, in the order in which they end."""
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in crew:
        free.put(worker)

    def work(key: str, frame: Frame) -> tuple[str, Atoms | str, float]:
        worker = free.get()
        try:
            return key, *worker.label(frame, key)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(max(1, len(crew))) as pool:
        try:
            for future in as_completed([pool.submit(work, *task) for task in tasks.items()]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in crew:
                worker.stop()


class _Worker:
    """A process that labels one frame after the other; a new one is started after a crash or a time limit."""

    def __init__(self, reference: Reference, directory: Path, threads: int, timeout: float | None) -> None:
        """Remember what to start."""
        self._start = (reference, directory)
        self._log = directory / LOG
        self._threads = str(threads)
        self._timeout = timeout
        self._pool: ProcessPoolExecutor | None = None
        self._process = 0

    def label(self, frame: Frame, key: str) -> tuple[Atoms | str, float]:
        """The labelled frame, or why there is no label, and the seconds that it took."""
        began = time.monotonic()
        try:
            if self._pool is None:
                # A fork server is reached through a socket, whose path has 107 letters at most.
                short = len(tempfile.gettempdir()) < 70
                context = multiprocessing.get_context("forkserver" if short else "spawn")
                context.set_forkserver_preload([__name__])  # PERF: importing it takes each worker a second
                self._pool = ProcessPoolExecutor(1, mp_context=context)
                threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), self._threads)
                self._process = self._pool.submit(_lead, self._log, os.environ | threads).result(START_SECONDS)
                self._pool.submit(_set_up, *self._start).result(START_SECONDS)
                began = time.monotonic()
            outcome = self._pool.submit(_label, frame, key).result(self._timeout)
            return outcome, time.monotonic() - began
        except TimeoutError:
            self.stop()
            seconds = time.monotonic() - began
            return f"time limit: not done after {seconds:.3g} s", seconds
        except BrokenProcessPool:
            self.stop()
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n") if self._log.exists() else []
        last = [line.strip()[:200] for line in lines if line.strip()][-1:]
        return f"crash: the worker process died{''.join(f' ({line})' for line in last)}", time.monotonic() - began

    def stop(self) -> None:
        """End the process and the programs that it started."""
        pool, self._pool = self._pool, None
        if pool is not None:
            if self._process:
                with suppress(ProcessLookupError):
                    os.killpg(self._process, signal.SIGKILL)
            # A process that has not said its number yet leads no group (and group 0 is ours): it ends when it is ready.
            pool.shutdown(wait=self._process != 0, cancel_futures=True)
            self._process = 0


_STATE: dict[str, Any] = {}
"""What a worker process keeps from frame to frame; empty everywhere else."""


def _lead(log: Path, environment: Mapping[str, str]) -> int:
    """Make this process the leader of a group of its own with our environment, and give its id.

    So a Ctrl-C in the terminal reaches the parent alone, and the programs it starts can be stopped with it.
    """
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.environ.clear()  # the fork server's, which is that of its first worker
    os.environ.update(environment)
    return os.getpid()


def _die_with_parent() -> None:
    """Stop this process group when the parent has ended, also by ``kill -9``."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _set_up(reference: Reference, directory: Path) -> None:
    """Make the calculator."""
    _STATE.update(reference=reference, directory=directory, calculator=reference.start(directory))


def _label(frame: Frame, key: str) -> Atoms | str:
    """The labelled frame, or why there is no label; in a worker.

    The calculator is kept for the next frame, CP2K with its wavefunction. Programs get a directory for each frame,
    which stays if the frame fails.
    """
    reference: Reference = _STATE["reference"]
    place = _STATE["directory"].parent / key
    calculator = _STATE.pop("calculator", None) or reference.start(_STATE["directory"])
    if not isinstance(calculator, Cp2k):
        if hasattr(calculator, "reset"):
            calculator.reset()  # else neighbour lists and guesses of earlier frames decide the last digits
        if hasattr(calculator, "directory"):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            calculator.directory = str(place)
    try:
        labelled = single_point(calculator, frame)
    except CalculatorSetupError as error:
        raise ConfigError(f"--calculator {reference.name}: {' '.join(str(error).split())[:300]}") from None
    except FAILURES as error:
        traceback.print_exc()
        with suppress(OSError):
            place.rmdir()  # nothing in it that could be looked at
        words = " ".join(str(error).split())[:500]
        return words if isinstance(error, CalculationFailed) and words else f"{type(error).__name__}: {words}"
    shutil.rmtree(place, ignore_errors=True)
    _STATE["calculator"] = calculator
    return labelled


def single_point(calculator: Any, frame: Frame) -> Atoms:
    """The structure with energy, forces and, with three periods and a calculator that has it, stress.

    ``info`` holds program and version; the calculator's charges and magnetic moments are kept as well.
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
    labelled = replace(_unlabelled(frame), energy=energy, forces=forces, stress=stress).to_atoms()
    labelled.calc.results.update({name: np.array(results[name]) for name in ATOM_RESULTS if name in results})
    labelled.info["label_version"] = _version(calculator)
    if "scf_iterations" in results:
        labelled.info["label_scf_iterations"] = results["scf_iterations"]
    return labelled


def _version(calculator: Any) -> str:
    """Program or package and version, for example ``Cp2k 2023.1 (qiskit_qff 0.1.0)``."""
    words = [type(calculator).__name__, str(getattr(calculator, "version", None) or "")]
    package = type(calculator).__module__.partition(".")[0]
    with suppress(PackageNotFoundError):
        package = f"{package} {version(package)}"
    return f"{' '.join(words).strip()} ({package})"
