"""Worker processes that may crash or hang: the frame at hand fails, and a new worker takes the next one."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qiskit_qff.durable import atomic_file
from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.labels import RUN, Label, LabelError, Labeller
from qiskit_qff.labelling.worker import LOG, work
from qiskit_qff.structures.frame import Frame

BULKY = {".wfn", ".gpw", ".cube"}
"""Suffixes of files that are not kept."""
START_SECONDS = 120.0
"""A worker that is not ready by then never will be."""


@dataclass
class _Slot:
    """One place for a worker; a worker that died is replaced in its slot."""

    directory: Path
    """Where the worker writes; what it keeps there outlives it."""
    process: BaseProcess
    """The worker."""
    connection: Connection
    """To the worker."""
    ready: bool = False
    """Whether it has reported."""
    index: int | None = None
    """Number of the frame at hand."""
    key: str = ""
    """Its name, for directories."""
    began: float = field(default_factory=time.monotonic)
    """When it got that frame, or was started."""


class Pool:
    """Some workers, each with frames of its own in succession."""

    def __init__(
        self,
        labeller: Labeller,
        directory: Path,
        *,
        workers: int,
        threads: int,
        timeout: float | None,
        keep: Path | None,
    ) -> None:
        """Start the workers.

        Args:
            labeller: what they run.
            directory: for their files, one subdirectory for each.
            workers: how many.
            threads: threads of each one's program.
            timeout: seconds that a frame may take; None for any.
            keep: directory for what the program read and wrote for each frame; None to keep that of failures only.
        """
        self._directory = directory
        self._keep = keep
        self._labeller = labeller
        self._threads = threads
        self._timeout = timeout
        self._slots = [self._start(directory / f"worker-{number}") for number in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            _stop(slot)

    def label(self, frames: Iterable[tuple[int, Frame, str]]) -> Iterator[tuple[int, Label | LabelError, float]]:
        """Label numbered and named frames; gives number, label or failure, and seconds, in the order in which they end.

        Raises:
            ConfigError: if a worker can't even start.
        """
        waiting = iter(frames)
        exhausted = False
        while True:
            for slot in self._slots:
                if not slot.ready or slot.index is not None or exhausted:
                    continue
                task = next(waiting, None)
                if task is None:
                    exhausted = True
                else:
                    slot.index, slot.key, slot.began = task[0], task[2], time.monotonic()
                    with contextlib.suppress(OSError):  # a dead worker is found when answers are collected
                        slot.connection.send(task[1])
            if exhausted and all(slot.index is None for slot in self._slots):
                return
            yield from self._collect()

    def _collect(self) -> Iterator[tuple[int, Label | LabelError, float]]:
        """Wait for the next answer, death or deadline, and give what has ended."""
        watched: list[Any] = [slot.connection for slot in self._slots]
        watched += [slot.process.sentinel for slot in self._slots]
        multiprocessing.connection.wait(watched, timeout=self._patience())
        for place, slot in enumerate(self._slots):
            seconds = time.monotonic() - slot.began
            if slot.connection.poll():
                outcome = self._receive(slot)
            elif not slot.process.is_alive():
                outcome = LabelError("crash", f"the worker process died ({_last_line(slot)})")
            elif self._timeout is not None and slot.index is not None and seconds > self._timeout:
                outcome = LabelError("timeout", f"not done after {self._timeout:g} s")
            elif not slot.ready and seconds > START_SECONDS:
                outcome = LabelError("timeout", "the worker did not start")
            else:
                continue
            index = slot.index
            slot.index = None
            if isinstance(outcome, LabelError) and outcome.kind in {"crash", "timeout"} and not _is_fine(slot, outcome):
                if not slot.ready:
                    raise ConfigError(f"a worker process can't start: {outcome.message}.")
                _stop(slot)
                self._slots[place] = self._start(slot.directory)
            if index is not None and outcome is not None:
                self._keep_files(slot, failed=isinstance(outcome, LabelError))
                yield index, outcome, seconds

    def _receive(self, slot: _Slot) -> Label | LabelError | None:
        """The answer of a worker; None for its first sign of life."""
        try:
            message = slot.connection.recv()
        except (EOFError, OSError):
            slot.process.join(timeout=5.0)
            return LabelError("crash", f"the worker process died ({_last_line(slot)})")
        if message[0] == "ready":
            slot.ready = True
            return None
        if message[0] == "done":
            label: Label = message[1]
            return label
        return LabelError(message[1], message[2])

    def _keep_files(self, slot: _Slot, *, failed: bool) -> None:
        """Keep what the program read and wrote for the frame at hand, where that is wanted."""
        files = slot.directory / RUN
        if failed and files.exists():
            place = self._directory / "failed" / slot.key
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(exist_ok=True)
            files.rename(place)
        elif self._keep is not None and files.exists():
            self._keep.mkdir(parents=True, exist_ok=True)
            with (
                atomic_file(self._keep / f"{slot.key}.tar.gz") as stream,
                tarfile.open(fileobj=stream, mode="w:gz") as archive,
            ):
                for path in sorted(files.iterdir()):
                    if path.is_file() and path.suffix not in BULKY:
                        archive.add(path, arcname=f"{slot.key}/{path.name}")

    def _patience(self) -> float | None:
        """Seconds to the next deadline."""
        now = time.monotonic()
        deadlines = [slot.began + START_SECONDS for slot in self._slots if not slot.ready]
        if self._timeout is not None:
            deadlines += [slot.began + self._timeout for slot in self._slots if slot.index is not None]
        return max(0.05, min(deadlines) - now + 0.05) if deadlines else None

    def _start(self, directory: Path) -> _Slot:
        """A new worker."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._labeller, directory, self._threads), daemon=False)
        process.start()
        theirs.close()
        return _Slot(directory=directory, process=process, connection=ours)


def _is_fine(slot: _Slot, outcome: LabelError) -> bool:
    """Whether a worker that reports a crash is itself alive: then its program crashed, and it can go on."""
    return outcome.kind == "crash" and slot.process.is_alive()


def _stop(slot: _Slot) -> None:
    """End a worker and the programs that it started."""
    slot.connection.close()
    pid = slot.process.pid
    if pid is not None and slot.process.is_alive():
        with contextlib.suppress(OSError):
            # Before os.setsid() the worker is still in our own group, which must not be stopped.
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
        slot.process.kill()
    slot.process.join(timeout=10.0)


def _last_line(slot: _Slot) -> str:
    """Exit code of a dead worker and the last thing it printed."""
    log = slot.directory / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    spoken = [line.strip() for line in lines if line.strip()]
    return f"exit code {slot.process.exitcode}{': ' + spoken[-1][:200] if spoken else ''}"
