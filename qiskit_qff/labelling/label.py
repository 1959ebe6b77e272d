"""Labelling a set of frames: what is done already is kept, what ends is written at once, what fails is kept apart.

A frame is known by a hash of its atoms and cell, so frames may be added or reordered between runs. Files belong to
one set of settings: energies of different ones are never mixed.
"""

import fcntl
import hashlib
import io
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io.extxyz import write_xyz

from qiskit_qff import __version__
from qiskit_qff.durable import sync_directory, write_atomically
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.reference import Reference
from qiskit_qff.labelling.workers import LOG, Label, Task, outcomes
from qiskit_qff.structures.extxyz import parse_header
from qiskit_qff.structures.frame import Frame, Tag

Progress = Callable[[int, int, int], None]
"""Takes the number of frames done, of those failed, and of all."""
DIGITS = 8
"""Decimals of a position in Å that the file keeps; frames are labelled as they are written."""


@dataclass(frozen=True)
class Failure:
    """A frame without a label."""

    index: int
    """Its number among the frames, counted from 0."""
    source: str
    """File and frame that it came from."""
    reason: str
    """What happened."""


@dataclass(frozen=True)
class LabelReport:
    """What became of the frames."""

    n_frames: int
    """Frames asked for."""
    n_labelled: int
    """Frames labelled in this run."""
    n_kept: int
    """Frames that were labelled before."""
    failures: tuple[Failure, ...]
    """Frames without a label, in this run or, where not tried again, in an earlier one."""
    seconds: tuple[float, ...]
    """Time that each frame labelled in this run took, in s."""


def failures_path(out: Path) -> Path:
    """The file beside the labels that holds the frames that failed."""
    return out.with_name(f"{out.name.removesuffix('.extxyz').removesuffix('.xyz')}.failures.extxyz")


def work_path(out: Path) -> Path:
    """The directory beside the labels in which programs work.

    It stays while there are failures to look into, and while it holds wavefunctions for more frames.
    """
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


def label_frames(
    frames: Sequence[Frame],
    reference: Reference,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    timeout: float | None = None,
    retry_failed: bool = False,
    with_settings: bool = True,
    progress: Progress | None = None,
) -> LabelReport:
    """Label what is not labelled yet, and write it to a file.

    Args:
        frames: structures; labels that they have are ignored, their tags kept.
        reference: the calculator.
        out: file to go on with, or to make. Failures go to a second file beside it (:func:`failures_path`).
        workers: processes.
        threads: threads of the program in each process.
        timeout: seconds that one frame may take; None for any.
        retry_failed: try frames again that failed in an earlier run.
        with_settings: write all settings to a file beside the labels (:func:`settings_path`).
        progress: called after each frame.

    Raises:
        ConfigError: if the file holds labels of other settings, or the calculator can't start.
        DataError: if the file is no extended XYZ.
        MissingDependencyError: if the program is not installed.
    """
    frames = [replace(frame, positions=np.round(frame.positions, DIGITS)) for frame in frames]
    seen: Counter[str] = Counter()
    keys = []
    for own in map(frame_id, frames):
        seen[own] += 1
        keys.append(own if seen[own] == 1 else f"{own}-{seen[own]}")
    with ExitStack() as stack:
        done, failed = (stack.enter_context(closing(LabelFile(path))) for path in (out, failures_path(out)))
        _ensure_same_settings(done, reference)
        have = set(done.keys)
        known = {key: n for n, key in enumerate(failed.keys) if key not in have}
        failures = []
        tasks = deque[Task]()
        for index, key in enumerate(keys):
            if key in known and not retry_failed:
                header = failed.headers[known[key]]
                failures.append(Failure(index, str(header.get("label_source", "")), str(header.get("failure"))))
            elif key not in have:
                tasks.append((index, frames[index], key))
        n_tasks, n_old, seconds = len(tasks), len(failures), []
        ended = outcomes(
            reference, tasks, work_path(out), workers=min(workers, n_tasks), threads=threads, timeout=timeout
        )
        for index, outcome, took in stack.enter_context(closing(ended)):
            tags = _tags(frames[index], keys[index], reference)
            if isinstance(outcome, Label):
                if with_settings and not done.headers:
                    head = f"# Settings of {out.name}: --calculator {reference.name}, hash {reference.settings_hash}\n"
                    text = yaml.safe_dump(dict(reference.settings), sort_keys=False, allow_unicode=True)
                    write_atomically(settings_path(out), head + text)
                done.append(_labelled(frames[index], outcome, tags))
                seconds.append(took)
            else:
                bare = replace(frames[index], energy=None, forces=None, stress=None, tags=tags)
                failed.append(
                    replace(bare, tags={**tags, "failure": outcome, "label_wall_s": round(took, 3)}).to_atoms()
                )
                failures.append(Failure(index, _origin(frames[index]), outcome))
            if progress is not None:
                progress(len(seconds) + len(failures) - n_old, len(failures), n_tasks)
        # Labels get the order of the frames; failures that were made good or repeated are dropped.
        place = {key: number for number, key in enumerate(keys)}
        done.reorder(sorted(range(len(done.keys)), key=lambda n: (place.get(done.keys[n], len(keys)), n)))
        last = {key: n for n, key in enumerate(failed.keys) if key not in set(done.keys)}
        failed.reorder(sorted(last.values()))
        if not last:
            _tidy(work_path(out))
    return LabelReport(
        n_frames=len(frames),
        n_labelled=len(seconds),
        n_kept=len(set(keys) & have),
        failures=tuple(sorted(failures, key=lambda failure: failure.index)),
        seconds=tuple(seconds),
    )


class LabelFile:
    """A file of extended XYZ that grows frame by frame and survives a kill at any moment.

    A frame is written in one piece and forced to disk before the next one begins. What a kill or a full disk leaves
    behind is at most one incomplete frame at the end, which the next opening cuts off.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file, for this process alone.

        Raises:
            DataError: if the file is no extended XYZ.
            ConfigError: if another process is writing to it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a+b")
        sync_directory(path.parent)
        self.headers: list[dict[str, Any]] = []
        """Key-value pairs of each frame."""
        self._ends = [0]
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
            self._read()
        except BlockingIOError:
            self._stream.close()
            raise ConfigError(
                f"{path}: another process is writing to it. Wait for it, or name another --out."
            ) from None
        except DataError:
            self._stream.close()
            raise
        self._stream.truncate(self._ends[-1])

    @property
    def keys(self) -> list[str]:
        """The id of each frame."""
        return [str(header.get("label_id", "")) for header in self.headers]

    def append(self, atoms: Atoms) -> None:
        """Write one frame and force it to disk.

        Raises:
            OSError: if the disk is full or gone; the file then ends with the frame before.
        """
        text = as_text(atoms)
        try:
            self._stream.write(text.encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(self._ends[-1])
            raise
        self._ends.append(self._ends[-1] + len(text.encode()))
        self.headers.append(parse_header(text.split("\n", 2)[1]))

    def reorder(self, order: Sequence[int]) -> None:
        """Keep these frames in this order and close the file; it is the old or the new one at any moment.

        Raises:
            OSError: from the operating system, with the file left as it was.
        """
        if list(order) != list(range(len(self.headers))):
            content = self.path.read_bytes()
            write_atomically(self.path, b"".join(content[self._ends[n] : self._ends[n + 1]] for n in order))
            self.headers = [self.headers[n] for n in order]
        self.close()

    def close(self) -> None:
        """Close the file; an empty one is removed."""
        if not self.headers:
            self.path.unlink(missing_ok=True)
        self._stream.close()

    def _read(self) -> None:
        """Find the complete frames.

        Raises:
            DataError: if a frame does not begin with its number of atoms.
        """
        self._stream.seek(0)
        while (head := self._stream.readline()).endswith(b"\n"):
            if not head.strip().isdigit() or len(head) > 12:  # no number of atoms is longer
                raise DataError(
                    f"{self.path}: expected a number of atoms, found {head[:40]!r}: this is no file of extended XYZ, "
                    "so nothing is appended to it. Name another --out."
                )
            lines = list(islice(iter(self._stream.readline, b""), int(head) + 1))
            if len(lines) < int(head) + 1 or not lines[-1].endswith(b"\n"):
                return
            self.headers.append(parse_header(lines[0].decode("utf-8", errors="replace")))
            self._ends.append(self._stream.tell())


def as_text(atoms: Atoms) -> str:
    """One frame as extended XYZ."""
    stream = io.StringIO()
    write_xyz(stream, [atoms])
    return stream.getvalue()


def _ensure_same_settings(file: LabelFile, reference: Reference) -> None:
    """Refuse to mix labels of different settings.

    Raises:
        ConfigError: if the file holds others.
    """
    for number, header in enumerate(file.headers):
        found = header.get("label_settings")
        if found != reference.settings_hash:
            level = header.get("label_level", "labels of unknown origin")
            raise ConfigError(
                f"{file.path}, frame {number}: was labelled with other settings ({level}; hash {found}) than "
                f"asked for ({reference.level}; hash {reference.settings_hash}). Energies of both must not be mixed: "
                "use the same --calculator and --options, or another --out."
            )


def _labelled(frame: Frame, label: Label, tags: dict[str, Tag]) -> Atoms:
    """The frame with its label and provenance."""
    tags |= {
        **label.tags,
        "label_version": label.version,
        "label_wall_s": round(label.seconds, 3),
        "label_finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    atoms = replace(frame, energy=label.energy, forces=label.forces, stress=label.stress, tags=tags).to_atoms()
    atoms.calc.results.update(label.per_atom)
    return atoms


def _tags(frame: Frame, key: str, reference: Reference) -> dict[str, Tag]:
    """The frame's own tags, and where its label comes from, without names of machines or directories."""
    own = {name: tag for name, tag in frame.tags.items() if not name.startswith(("label_", "failure"))}
    return own | {
        "label_calculator": reference.name,
        "label_level": reference.level,
        "label_settings": reference.settings_hash,
        "label_source": _origin(frame),
        "label_id": key,
        "label_qff": __version__,
    }


def _tidy(directory: Path) -> None:
    """Remove the workers' logs, and what is empty without them."""
    for log in directory.glob(f"*/{LOG}"):
        log.unlink()
    for place in (*directory.glob("*"), directory):
        with suppress(OSError):
            place.rmdir()


def _origin(frame: Frame) -> str:
    """The file's name, without its directory, and the frame's number in it."""
    return f"{Path(frame.source).name} frame {frame.index}" if frame.source else f"frame {frame.index}"
