"""Time and memory of a step of molecular dynamics with the number of atoms and threads.

    python benchmarks/scaling.py [--model model.json] [--parts size threads screening] [--smoke]

Supercells of lips83, and the model that `qff train` makes of its first 600 frames. `size`: processor time of a step
(forces, and a neighbour list of 0.5 Å skin that is built anew every tenth step) on one thread at 1,000, 10,000 and
100,000 atoms, taking turns; and the peak resident memory of a process of its own for each size. `threads`: wall time of
a step on one and two threads, in turns. `screening`: wall time of 200 single cells through a pool of threads,
one and two at a time, in turns.

Wall times suffer when other jobs use the cores. The load average before each run is recorded; besides the ratio of
the medians, that of the fastest runs is given. On a busy machine `--realtime` keeps other jobs off the cores for the
seconds that the two threads are measured.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import models
import numba
import numpy as np

from qiskit_qff import train
from qiskit_qff.descriptors.derivatives import thread_pool
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames, read_shipped
from qiskit_qff.structures.neighbors import VerletList

SIZES = ((2, 2, 3), (4, 5, 6), (10, 11, 11))
STEPS_PER_LIST = 10
PARTS = ("size", "threads", "screening")


class Moving:
    """A supercell whose atoms are shaken a little at every step."""

    def __init__(self, field, atoms):
        self.field, self.numbers = field, atoms.numbers
        self.points, self.cell, self.pbc = atoms.get_positions(), atoms.cell.array, atoms.pbc
        self.neighbors = VerletList(field.cutoff, 0.5)
        rng = np.random.default_rng(0)
        self.shake = 0.01 * (rng.random(self.points.shape) - 0.5)

    def steps(self, count=STEPS_PER_LIST):
        """Some steps on one list, built at the first."""
        self.neighbors.forget()
        for _ in range(count):
            self.points += self.shake
            neighbors = self.neighbors.update(self.points, self.cell, self.pbc)
            self.field.evaluate(self.numbers, neighbors)
            del neighbors
        self.points -= count * self.shake
        return count


def timed(work, clock):
    """Seconds a step."""
    begin = clock()
    count = work()
    return (clock() - begin) / count


def in_turns(works, clock, repeats):
    """Seconds a step of each, in turns, and the load before each round."""
    seconds, load = [[] for _ in works], []
    for work in works:
        work()
    for _ in range(repeats):
        load.append(os.getloadavg()[0])
        for times, work in zip(seconds, works, strict=True):
            times.append(timed(work, clock))
    return seconds, load


def speedup(seconds, load):
    one, two = seconds
    return {
        "speedup_median": statistics.median(one) / statistics.median(two),
        "speedup_fastest": min(one) / min(two),
        "ms_one": [1e3 * t for t in one],
        "ms_two": [1e3 * t for t in two],
        "load_average": load,
    }


def sizes(field, atoms, model, structure, shapes, repeats):
    """Processor time and peak memory per atom."""
    numba.set_num_threads(1)
    cells = [Moving(field, atoms * shape) for shape in shapes]
    seconds, load = in_turns([cell.steps for cell in cells], time.process_time, repeats)
    rows = []
    for cell, times, shape in zip(cells, seconds, shapes, strict=True):
        n = len(cell.numbers)
        command = [sys.executable, __file__, "--peak", *map(str, shape), str(model), str(structure)]
        kib = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        rows.append({
            "n_atoms": n,
            "us_per_atom": 1e6 * statistics.median(times) / n,
            "us_per_atom_all": [1e6 * t / n for t in times],
            "peak_mib": kib / 1024,
        })  # fmt: skip
    small, large = rows[0], rows[-1]
    return {
        "rows": rows,
        "time_ratio_largest_to_smallest": large["us_per_atom"] / small["us_per_atom"],
        "kb_per_atom": (large["peak_mib"] - small["peak_mib"]) * 1.024**2 * 1e3 / (large["n_atoms"] - small["n_atoms"]),
        "load_average": load,
    }


def print_peak(shape, model, structure):
    """KiB that a process needs at most for some steps."""
    numba.set_num_threads(1)
    moving = Moving(ForceField.load(model), read_frames(Path(structure))[0].to_atoms() * shape)
    moving.steps()
    moving.steps()
    # Not getrusage: Linux lets a child begin with the peak of its parent.
    print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))


def schedule(policy, priority):
    """Change how the system schedules this process."""
    for task in Path("/proc/self/task").iterdir():
        os.sched_setscheduler(int(task.name), policy, os.sched_param(priority))


def undisturbed(one, two, repeats, *, realtime):
    """Wall time of two pieces of work in turns; with real-time scheduling, other jobs wait."""
    two()  # compiles, and starts the threads
    if realtime:
        schedule(os.SCHED_FIFO, 1)
    result = speedup(*in_turns([one, two], time.perf_counter, repeats))
    if realtime:
        schedule(os.SCHED_OTHER, 0)
    return result


def threads(field, atoms, shape, repeats, *, realtime):
    """Wall time of a step on one and two threads."""
    cell = Moving(field, atoms * shape)

    def run(count):
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        return cell.steps()

    result = undisturbed(lambda: run(1), lambda: run(2), repeats, realtime=realtime)
    return {"n_atoms": len(cell.numbers), **result}


def screening(field, frames, repeats, *, realtime):
    """Wall time of a structure when many are predicted, one and two at a time."""
    numba.set_num_threads(1)

    def run(count):
        with thread_pool(count) as pool:
            return sum(1 for _ in pool.map(field.predict, frames))

    result = undisturbed(lambda: run(1), lambda: run(2), repeats, realtime=realtime)
    per_second = [1e3 / statistics.median(result[key]) for key in ("ms_one", "ms_two")]
    return {"n_atoms": frames[0].n_atoms, "n_frames": len(frames), "per_second": per_second, **result}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: what qff train makes of the first 600 frames")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", default="shared with other jobs", help="about the machine, kept with the results")
    parser.add_argument(
        "--realtime", action="store_true", help="threads: real-time scheduling, seconds only; needs root"
    )
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="small cells of the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(tuple(map(int, arguments.peak[:3])), *arguments.peak[3:])
        return
    if arguments.smoke:
        frames = read_shipped()
    elif (found := models.frames_of("lips83")) is None:
        return
    else:
        frames = found[0]
    atoms = frames[0].to_atoms()
    with tempfile.TemporaryDirectory() as name:
        model = arguments.model or Path(name) / "model.json"
        if not arguments.model:
            config = TrainConfig(max_parameters=40) if arguments.smoke else None
            train(frames[: 10 if arguments.smoke else 600], config).force_field.save(model)
        structure = Path(name) / "frame.extxyz"
        atoms.write(structure)
        field = ForceField.load(model)
        if arguments.smoke:
            print(json.dumps(sizes(field, atoms, model, structure, ((1, 1, 1), (2, 1, 1)), 1)))
            print(json.dumps(threads(field, atoms, (2, 2, 2), 1, realtime=False)))
            print(json.dumps(screening(field, frames, 1, realtime=False)))
            return
        result = models.recorded("scaling") or {}
        result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {arguments.note}"
        if "size" in arguments.parts:
            result["size"] = sizes(field, atoms, model, structure, SIZES, arguments.repeats)
        if "threads" in arguments.parts:
            result["threads"] = threads(field, atoms, (4, 4, 4), arguments.repeats, realtime=arguments.realtime)
        if "screening" in arguments.parts:
            result["screening"] = screening(field, frames[:200], arguments.repeats, realtime=arguments.realtime)
        models.record("scaling", result)
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
