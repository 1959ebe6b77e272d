"""Labelling a set of frames: what is done already is kept, what ends is written at once, what fails is kept apart.

A frame is known by a hash of its atoms and cell, so frames may be added or reordered between runs. Files belong to one
set of settings: energies of different ones are never mixed.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qiskit_qff import __version__
from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.journal import Journal
from qiskit_qff.labelling.labels import Label, LabelError, Labeller
from qiskit_qff.labelling.pool import Pool
from qiskit_qff.structures.frame import Frame, Tag

if TYPE_CHECKING:
    from ase import Atoms

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
    kind: str
    """``not-converged``, ``not-finite``, ``timeout``, ``crash`` or ``error``."""
    message: str
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
    """The directory beside the labels that holds what workers keep between frames."""
    return out.with_name(f".{out.name}.work")


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
    labeller: Labeller,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    timeout: float | None = None,
    retry_failed: bool = False,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> LabelReport:
    """Label what is not labelled yet, and write it to a file.

    Args:
        frames: structures; labels that they have are ignored, their tags kept.
        labeller: the program and its settings.
        out: file to go on with, or to make. Failures go to a second file beside it (:func:`failures_path`).
        workers: processes.
        threads: threads of the program in each process.
        timeout: seconds that one frame may take; None for any.
        retry_failed: try frames again that failed in an earlier run.
        keep: directory for what the program read and wrote for each frame, packed; None to keep that of failures only.
        progress: called after each frame.

    Raises:
        ConfigError: if the file holds labels of other settings, or no worker can start.
        DataError: if the file is no extended XYZ.
        QFFError: if the program is not installed.
    """
    labeller.check()
    frames = [replace(frame, positions=np.round(frame.positions, DIGITS)) for frame in frames]
    keys = _keys(frames)
    with closing(Journal(out)) as done, closing(Journal(failures_path(out))) as failed:
        _ensure_same_settings(done, labeller)
        have = set(_entry_keys(done))
        known = {key: n for n, key in enumerate(_entry_keys(failed)) if key not in have}
        old = {index: known[key] for index, key in enumerate(keys) if key in known and not retry_failed}
        failures = [_old_failure(index, failed.entries[place].header) for index, place in old.items()]
        todo = [index for index, key in enumerate(keys) if key not in have and index not in old]
        seconds: list[float] = []
        if todo:
            with Pool(
                labeller, work_path(out), workers=min(workers, len(todo)), threads=threads, timeout=timeout, keep=keep
            ) as pool:
                for index, outcome, took in pool.label((index, frames[index], keys[index]) for index in todo):
                    if isinstance(outcome, LabelError):
                        failures.append(Failure(index, _origin(frames[index]), outcome.kind, outcome.message))
                        failed.append(_failed_atoms(frames[index], keys[index], labeller, outcome, took))
                    else:
                        done.append(_labelled_atoms(frames[index], keys[index], labeller, outcome))
                        seconds.append(took)
                    if progress is not None:
                        progress(len(seconds) + len(failures) - len(old), len(failures), len(todo))
        _tidy(done, failed, keys)
        if not failed.entries:
            shutil.rmtree(work_path(out), ignore_errors=True)
    return LabelReport(
        n_frames=len(frames),
        n_labelled=len(seconds),
        n_kept=len(set(keys) & have),
        failures=tuple(sorted(failures, key=lambda failure: failure.index)),
        seconds=tuple(seconds),
    )


def _keys(frames: Sequence[Frame]) -> list[str]:
    """The hash of each frame; a second frame of the same hash gets a number."""
    seen: Counter[str] = Counter()
    keys = []
    for frame in frames:
        own = frame_id(frame)
        seen[own] += 1
        keys.append(own if seen[own] == 1 else f"{own}-{seen[own]}")
    return keys


def _entry_keys(journal: Journal) -> list[str]:
    """The hashes of the frames in a file."""
    return [str(entry.header.get("label_id", "")) for entry in journal.entries]


def _ensure_same_settings(journal: Journal, labeller: Labeller) -> None:
    """Refuse to mix labels of different settings.

    Raises:
        ConfigError: if the file holds others.
    """
    for number, entry in enumerate(journal.entries):
        found = entry.header.get("label_settings")
        if found != labeller.settings_hash:
            level = entry.header.get("label_level", "labels of unknown origin")
            raise ConfigError(
                f"{journal.path}, frame {number}: was labelled with other settings ({level}; hash {found}) than "
                f"asked for ({labeller.level}; hash {labeller.settings_hash}). Energies of both must not be mixed: "
                "use the same --calculator and --options, or another --out."
            )


def _labelled_atoms(frame: Frame, key: str, labeller: Labeller, label: Label) -> "Atoms":
    """The frame with its label, tags and provenance."""
    labelled = replace(
        frame, energy=label.energy, forces=label.forces, stress=label.stress, tags={**_own_tags(frame), **label.tags}
    )
    atoms = labelled.to_atoms()
    for name, values in label.columns.items():
        atoms.arrays[name] = np.asarray(values)
    atoms.info.update(
        _provenance(frame, key, labeller)
        | {
            "label_version": label.version,
            "label_input_sha256": label.input_hash,
            "label_wall_s": round(label.wall_seconds, 3),
            "label_finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    return atoms


def _failed_atoms(frame: Frame, key: str, labeller: Labeller, failure: LabelError, seconds: float) -> "Atoms":
    """The frame with what went wrong."""
    bare = replace(frame, energy=None, forces=None, stress=None, tags=_own_tags(frame))
    atoms = bare.to_atoms()
    atoms.info.update(
        _provenance(frame, key, labeller)
        | {"failure": failure.kind, "failure_message": failure.message, "label_wall_s": round(seconds, 3)}
    )
    return atoms


def _own_tags(frame: Frame) -> dict[str, Tag]:
    """The frame's tags without those of an earlier labelling."""
    return {name: tag for name, tag in frame.tags.items() if not name.startswith(("label_", "failure"))}


def _provenance(frame: Frame, key: str, labeller: Labeller) -> dict[str, Tag]:
    """Where a label comes from, without names of machines or directories."""
    return {
        "label_calculator": labeller.name,
        "label_level": labeller.level,
        "label_settings": labeller.settings_hash,
        "label_source": _origin(frame),
        "label_id": key,
        "label_qff": __version__,
    }


def _origin(frame: Frame) -> str:
    """The file's name, without its directory, and the frame's number in it."""
    return f"{Path(frame.source).name} frame {frame.index}" if frame.source else f"frame {frame.index}"


def _old_failure(index: int, header: dict[str, object]) -> Failure:
    """A failure of an earlier run."""
    return Failure(
        index, str(header.get("label_source", "")), str(header.get("failure")), str(header.get("failure_message"))
    )


def _tidy(done: Journal, failed: Journal, keys: Sequence[str]) -> None:
    """Bring the labels into the order of the frames, and drop failures that were made good or repeated."""
    place = {key: number for number, key in enumerate(keys)}
    have = _entry_keys(done)
    done.rewrite(sorted(range(len(have)), key=lambda n: (place.get(have[n], len(keys)), n)))
    last = {key: n for n, key in enumerate(_entry_keys(failed)) if key not in set(have)}
    failed.rewrite(sorted(last.values()))
