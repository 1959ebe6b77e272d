"""The order in time of the shuffled ab initio frames of lips83, and the lithium diffusivity that they give.

    python benchmarks/lips83_order.py [--smoke]

The 800 frames (83 atoms, one cell, NVT at 520 K) were drawn at random from one trajectory, and carry no time. Three
steps recover it from the positions alone:

1. Length. Within some femtoseconds atoms fly freely, so the mass-weighted distance of two frames over the thermal one,
   sqrt(3 (N - 1) kT), is the time between them. The distances lie on rungs 2 fs apart, the time step. Of n frames drawn
   from L steps, n²/L pairs are k steps apart whatever k is, so the pairs on the first five rungs give the length.
2. Order. Spectral ordering (the Fiedler vector of exp(-d²), d the root mean squared displacement of Li in Å), then
   2-opt, which reverses parts of the path as long as that makes it shorter.
3. Displacements: followed across borders from frame to frame; frames are taken to be evenly spaced.

The diffusivity is that of `qff analyse` (kinisi, lag times from 5 to 50 %), of the whole and of both halves, each the
mean over both directions of time, since the true one is unknown and kinisi's estimate depends on it a little. Half the
difference of the halves, more than kinisi's own error, is quoted as the uncertainty. `--smoke` orders every fourth
frame and writes nothing.
"""

import argparse
import json

import numpy as np
from ase import units
from ase.data import atomic_masses
from models import DATA, record

from qiskit_qff.simulation.trajectory import Trajectory, follow_across_borders
from qiskit_qff.simulation.transport import transport
from qiskit_qff.structures.dataset import read_frames

TEMPERATURE_K, STEP_FS, RUNGS = 520.0, 2.0, 5


def distances(frames, masses):
    """Root of the mass-weighted mean squared displacement of each pair of frames about the centre of mass, in Å."""
    cell = frames[0].cell
    fractional = np.array([f.positions for f in frames]) @ np.linalg.inv(cell)
    found = np.empty((len(frames), len(frames)))
    for row, one in zip(found, fractional, strict=True):
        moves = fractional - one
        moves = (moves - np.round(moves)) @ cell
        moves -= np.average(moves, axis=1, weights=atomic_masses[frames[0].numbers])[:, None]
        row[:] = np.sqrt(np.einsum("tai,tai,a->t", moves, moves, masses / masses.sum()))
    return (found + found.T) / 2.0


def rungs(frames):
    """Times between close frames in fs on each rung, and the length of the trajectory in ps with its error."""
    masses = atomic_masses[frames[0].numbers]
    speed = np.sqrt(3 * (len(masses) - 1) * units.kB * TEMPERATURE_K / masses.sum()) * units.fs  # Å/fs
    times = distances(frames, masses)[np.triu_indices(len(frames), 1)] / speed
    steps = np.round(times / (0.985 * STEP_FS))  # 0.985: forces have slowed the flight a little after some steps
    found = [times[steps == k] for k in range(1, RUNGS + 1)]
    count = sum(map(len, found))
    length_ps = RUNGS * len(frames) ** 2 / count * STEP_FS / 1e3
    means = [{"fs": round(float(own.mean()), 3), "spread_fs": round(float(own.std()), 3), "pairs": len(own)}
             for own in found]  # fmt: skip
    return {"rungs": means, "length_ps": length_ps, "length_error_ps": length_ps / np.sqrt(count)}


def shorter(order, d):
    """2-opt: reverse parts of an open path until no reversal makes it shorter."""
    changed = True
    while changed:
        changed = False
        for i in range(-1, len(order) - 2):  # the part begins after i; -1: at the start
            ends, after = order[i + 2 :], order[i + 3 :]
            gain = np.append(d[ends[:-1], after] - d[order[i + 1], after], 0.0)
            gain += d[order[i], order[i + 1]] - d[order[i], ends] if i >= 0 else 0.0
            best = int(gain.argmax())
            if gain[best] > 1e-9:
                order[i + 1 : i + 3 + best] = order[i + 1 : i + 3 + best][::-1].copy()
                changed = True
    return order


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a quarter of the frames, nothing written")
    given = parser.parse_args()
    if not (DATA / "lips83.extxyz.xz").exists():
        return
    frames = read_frames(DATA / "lips83.extxyz.xz")[:: 4 if given.smoke else 1]
    numbers, n = frames[0].numbers, len(frames)
    found = {"n_frames": n, "temperature_k": TEMPERATURE_K} | rungs(frames)

    d = distances(frames, np.where(numbers == 3, 1.0, 0.0))
    near = np.exp(-(d**2)) - np.eye(n)
    roots = np.sqrt(near.sum(axis=1))
    order = np.argsort(np.linalg.eigh(np.eye(n) - near / np.outer(roots, roots))[1][:, 1] / roots)
    found["spectral_path_ang"] = float(d[order[:-1], order[1:]].sum())
    order = shorter(order, d)
    found |= {"path_ang": float(d[order[:-1], order[1:]].sum()), "largest_step_ang": d[order[:-1], order[1:]].max()}

    cells = np.array([frames[k].cell for k in order])
    positions = follow_across_borders(np.array([frames[k].positions for k in order]), cells, frames[0].pbc)
    times = np.arange(n) * found["length_ps"] / n
    for name, part in (("whole", slice(None)), ("first half", slice(n // 2)), ("second half", slice(n // 2, None))):
        both = [
            transport(Trajectory(numbers, walk, cells[part], frames[0].pbc, times[part]), "Li")
            for walk in (positions[part], positions[part][::-1])
        ]
        found[name] = {
            "cm2_per_s": float(np.mean([one["diffusivity_cm2_per_s"] for one in both])),
            "error_cm2_per_s": float(np.mean([one["diffusivity_error_cm2_per_s"] for one in both])),
            "exponent": both[0]["msd_exponent"],
            "n_hops": both[0]["n_hops"],
        }
    found["error_cm2_per_s"] = abs(found["first half"]["cm2_per_s"] - found["second half"]["cm2_per_s"]) / 2.0
    print(json.dumps(found, indent=1))
    if not given.smoke:
        record("lips83_order", found)


if __name__ == "__main__":
    main()
