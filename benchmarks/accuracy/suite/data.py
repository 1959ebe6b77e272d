"""The data sets and how each is split: fixed before anything was fitted, one split of each set named by its issue.

Frames in time order are never parted at random: there every split holds out another block of the trajectory, and frames
next to the block are left out of training (the gap), because they nearly repeat it.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.model.config import DataConfig, TrainConfig
from qiskit_qff.structures.framework import missing_bonds, whole_frames
from qiskit_qff.structures.neighbors import neighbor_list
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.pipeline import read_training_data

WHOLE = "limof5_whole"
"""The shipped set without the frames whose framework lacks bonds."""
SHIPPED = ("limof5", WHOLE, "li6ps5cl")
"""Sets that come with the package."""
SETS = ("lips83", "uio66", *SHIPPED, "li7p3s11_melt", "li4p2s6_melt", "lgps50")
TARGETS = {
    "lips83": (85.0, 1.3),
    "uio66": (90.0, 1.5),
    "limof5": (150.0, 3.0),
    "li7p3s11_melt": (230.0, 8.0),
    "lgps50": (110.0, 5.0),
}
"""Required force MAE in meV/Å and energy MAE in meV/atom."""
TEMPERATURES = {"lips83": "520 K", "li7p3s11_melt": "3000 K", "li4p2s6_melt": "3000 K"}
"""Of sets whose frames do not say it themselves."""
DRAWS = 5
CLOSER = 0.05
"""How much closer than in any training frame two atoms must come to be called a new contact, in Å."""


@dataclass(frozen=True)
class Split:
    """Frames fitted to and frames held out."""

    name: str
    words: str
    train: list[int]
    test: list[int]
    named: bool = False
    """Whether it is the split that the set's required errors are stated for."""


@cache
def load(name, folder):
    """Frames of a set; None where it is absent."""
    if name in SHIPPED:
        return whole_frames(read_shipped()) if name == WHOLE else read_shipped(name)
    path = Path(folder) / f"{name}.extxyz.xz"
    return read_frames(path) if path.exists() else None


def splits(name, frames):
    """All splits of a set, the named one first (all of uio66's and limof5's follow the named rule)."""
    found = {"lips83": _lips83, "uio66": _uio66, "limof5": _limof5, WHOLE: _limof5}.get(name, _blocks)(name, frames)
    for way in found:
        if set(way.train) & set(way.test):
            raise ValueError(f"{name}, {way.name}: a frame is on both sides")
    return found


def block_outside(count, start, stop, gap):
    """Indices of frames that lie at least ``gap`` before or behind a block."""
    return [k for k in range(count) if k < start - gap or k >= stop + gap]


def _lips83(_name, frames):
    """Shuffled when it was made: any split is as good as a random one."""
    count, size = len(frames), 200
    found = [Split("last 200", "first 600 / last 200", list(range(600)), list(range(600, count)), named=True)]
    for start in range(0, 600, size):
        words = f"frames {start}-{start + size - 1} held out"
        found.append(
            Split(
                words.removesuffix(" held out"),
                words,
                block_outside(count, start, start + size, 0),
                list(range(start, start + size)),
            )
        )
    order = np.random.default_rng(1).permutation(count)
    found.append(
        Split("random 200", "200 random frames held out", sorted(order[size:].tolist()), sorted(order[:size].tolist()))
    )
    return found


def _uio66(_name, frames):
    found = []
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(frames))
        for k, held in enumerate(np.split(order, range(5, len(frames), 5))):
            name, kept = f"grouping {seed + 1}, part {k + 1}", np.setdiff1d(order, held)
            found.append(Split(name, "5 frames held out", kept.tolist(), sorted(held.tolist()), named=True))
    return found


def _limof5(_name, frames):
    found = []
    for seed in range(DRAWS):
        split = read_training_data(frames, TrainConfig(data=DataConfig(split="balanced"), seed=seed)).split
        words = "20 % held out, evenly from the replicas, rattled copies with their parents"
        found.append(Split(f"draw {seed + 1}", words, split.train.tolist(), split.test.tolist(), named=True))
    return found


def _blocks(name, frames):
    """Blocks in file order, the named split first."""
    count = len(frames)
    if name == "li7p3s11_melt":
        size, gap, starts = 100, 50, (0, 130, 260, 390)
        first = Split("last 100", "first 450 / last 100", list(range(450)), list(range(count - 100, count)), named=True)
    else:
        size = count // 5
        # lgps50 is no trajectory: its frames are separate calculations, so neighbours in the file need no gap.
        gap, starts = (0 if name == "lgps50" else 20), [k * size for k in range(4)]
        test = list(range(4 * size, count))
        first = Split("last fifth", f"last fifth held out, gap {gap}", list(range(4 * size - gap)), test, named=True)
    found = [first]
    for start in starts:
        words = f"frames {start}-{start + size - 1} held out, gap {gap}"
        train = block_outside(count, start, start + size, gap)
        found.append(Split(f"frames {start}-{start + size - 1}", words, train, list(range(start, start + size))))
    return found


def leave_one_temperature_out(frames):
    """Splits of frames that say their temperature: all frames of one held out each time."""
    temperatures = sorted({f.tags["temperature_K"] for f in frames})
    found = []
    for held in temperatures:
        train = [k for k, f in enumerate(frames) if f.tags["temperature_K"] != held]
        test = [k for k, f in enumerate(frames) if f.tags["temperature_K"] == held]
        others = " and ".join(f"{t:g} K" for t in temperatures if t != held)
        found.append(Split(f"{others} to {held:g} K", "all frames of one temperature held out", train, test))
    return found


def condition(name, frame):
    """What a frame's errors are listed under: its temperature, or where it comes from; None where nothing is known."""
    if name == "limof5" and frame.where in _apart():
        return "nodes came apart"
    if name == "li6ps5cl":
        return "equilibration from 1300 K" if frame.tags["part"] == "equilibration" else "trajectory at 770 K"
    if "temperature_K" in frame.tags:
        return f"{frame.tags['temperature_K']:g} K" + (", rattled" if frame.tags.get("rattle") else "")
    if name == "lgps50":
        return "perturbed cells" if "init" in str(frame.tags.get("source")) else "active learning"
    return TEMPERATURES.get(name)


@cache
def _apart():
    """Which frames of the shipped set lack bonds."""
    frames = read_shipped()
    return {frames[index].where for index in missing_bonds(frames)}


def spread(frames, count):
    """Some of the frames, evenly chosen."""
    return [frames[int(k)] for k in np.linspace(0, len(frames) - 1, min(count, len(frames))).round()]


def aligned(frames):
    """The frames with their mean energy per atom taken off; only energies relative to it are left.

    Sets computed with different pseudopotentials can be trained on together this way. The constant is a number fitted
    to labels, but it cancels in every difference of energies of one composition.
    """
    mean = float(np.mean([f.energy / f.n_atoms for f in frames]))
    return [replace(f, energy=f.energy - mean * f.n_atoms) for f in frames]


def replicated(frame):
    """The frame's structure, repeated twice in every direction; copies follow each other."""
    atoms = frame.to_atoms().repeat(2)
    return type(frame)(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def new_contacts(train, test, r_cut=3.5):
    """Pairs of elements that come closer in some test frames than in any training frame.

    Returns:
        For each such pair the shortest distance in training (None beyond ``r_cut``) and in testing, in Å, and the
        number of test frames.
    """
    known, found = {}, {}
    for frame in train:
        for pair, distance in _shortest(frame, r_cut).items():
            known[pair] = min(distance, known.get(pair, np.inf))
    for frame in test:
        for pair, distance in _shortest(frame, r_cut).items():
            limit = known.get(pair, np.inf)
            if distance < limit - CLOSER:
                entry = found.setdefault(
                    pair, {"train": limit if limit < np.inf else None, "test": distance, "frames": 0}
                )
                entry["test"] = min(entry["test"], distance)
                entry["frames"] += 1
    return found


def _shortest(frame, r_cut):
    """Shortest distance of every pair of elements."""
    neighbors = neighbor_list(frame.positions, frame.cell, frame.pbc, r_cut)
    one, other = frame.numbers[neighbors.centers], frame.numbers[neighbors.neighbor]
    codes = np.minimum(one, other) * 1000 + np.maximum(one, other)
    order = np.argsort(neighbors.distances)
    pairs, first = np.unique(codes[order], return_index=True)
    return {
        f"{chemical_symbols[code // 1000]}-{chemical_symbols[code % 1000]}": float(neighbors.distances[order[k]])
        for code, k in zip(pairs.tolist(), first.tolist(), strict=True)
    }
