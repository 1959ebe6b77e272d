"""Everything that reads a file, and ways to spoil one: for the tests, the table of faults, and the fuzzer."""

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.labelling.label import LabelFile
from qiskit_qff.labelling.reference import reference
from qiskit_qff.model.config import load_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.remote.run_directory import load_result, load_run
from qiskit_qff.simulation.recording import read_checkpoint, read_log
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.training.measured.journal import read_journal

Reader = Callable[[Path], object]

READERS: dict[str, tuple[str, Reader]] = {
    "model": ("model.json", ForceField.load),
    "configuration": ("config.yaml", load_config),
    "structures": ("data.extxyz", read_frames),
    "compressed structures": ("data.extxyz.xz", read_frames),
    "trajectory": ("trajectory.extxyz", read_trajectory),
    "log": ("log.csv", read_log),
    "checkpoint": ("checkpoint.npz", read_checkpoint),
    "training journal": ("journal.json", read_journal),
    "labels": ("labels.extxyz", lambda path: LabelFile(path).close()),
    "label options": ("options.yaml", lambda path: reference("emt", path)),
    "run": ("run.json", lambda path: load_run(path.parent)),
    "job result": ("job_0.npz", load_result),
}
"""File name and reader by what is read; a reader may raise a QFFError and nothing else."""

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**31, 2**63, 10**30, 1e308, -0.0, 1e-320, float("nan"), float("inf"), "", "x", "NaN", "0",
    [], {}, [[]], [None], {"a": 1}, [1, 2, 3], [[1, 2], [3]], "9" * 5000, "é\u202e\x00",
)  # fmt: skip
"""What a field may be replaced by."""


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut out, repeat, or insert a few bytes, or cut the end off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 8, 64, 1000))
        match rng.randrange(6):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = data[place : place + length]
            case 3:
                data[place:place] = rng.choice(
                    (b"nan", b"1e999", b"-", b"\x00", b"\n", b"[[[[", b'"', b"99999999999", b"inf")
                )
            case 4:
                del data[place:]
            case _:
                other = rng.randrange(len(data) + 1)
                data[place : place + length] = data[other : other + length]
    return bytes(data)


def spoil_document(document: Any, rng: random.Random) -> Any:
    """A copy with one entry replaced, removed, repeated, or deeply nested."""
    copy = json.loads(json.dumps(document))
    holder, key = _random_place(copy, rng)
    if holder is None:
        return rng.choice(ODD)
    match rng.randrange(5):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 2, 100)))
        case 2:
            nest: Any = holder[key]
            for _ in range(rng.choice((1, 2, 40, 900))):
                nest = [nest]
            holder[key] = nest
        case _:
            holder[key] = rng.choice(ODD)
    return copy


def _random_place(document: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container somewhere in a document, and one of its keys."""
    holder, key, inside = None, None, document
    while isinstance(inside, (dict, list)) and inside:
        holder, key = inside, rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside = inside[key]
        if rng.random() < 0.25:
            break
    return holder, key


def spoil_arrays(content: bytes, rng: random.Random) -> bytes:
    """An ``.npz`` file with one array replaced, removed, or of another kind."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    name = rng.choice(list(held))
    odd = (
        np.zeros(0),
        np.array("text"),
        np.full((2, 2), np.nan),
        np.array([1], dtype=np.int8),
        np.zeros((3, 3), complex),
    )
    if rng.random() < 0.3:
        del held[name]
    elif name == "document":
        held[name] = np.array(json.dumps(spoil_document(json.loads(str(held[name])), rng)))
    else:
        held[name] = rng.choice(odd)
    stream = io.BytesIO()
    np.savez(stream, **held)
    return stream.getvalue()


def spoil(content: bytes, name: str, rng: random.Random) -> bytes:
    """Spoil a file in a way that fits its format, or any file."""
    if rng.random() < 0.3:
        return spoil_bytes(content, rng)
    if name.endswith(".json"):
        return json.dumps(spoil_document(json.loads(content), rng)).encode()
    if name.endswith(".npz"):
        return spoil_arrays(content, rng)
    if name.endswith(".gz"):
        return gzip.compress(spoil_bytes(gzip.decompress(content), rng))
    if name.endswith(".xz"):
        import lzma

        return lzma.compress(spoil_bytes(lzma.decompress(content), rng))
    return spoil_bytes(content, rng)
