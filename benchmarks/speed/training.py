"""Time and memory of `qff train`, from file to model.json, and of an optimiser's step: 60 and 600 frames of lips83.

    python benchmarks/speed/training.py [--data DIR] [--repeats 3] [--smoke]

Each run is a process of its own, started from the same environment; the time includes imports and, in the first run
on a machine, the compilation of the kernels (a warm-up run is not counted). Peak memory is the largest resident set
the operating system saw. By default many frames are given a longer cutoff and a larger pool than few, so 60 frames are
trained twice: by default, and with what 600 are given by default. The ratio of the latter two is what the
constant-memory claim rests on. On a busy machine wall times are upper bounds: processor time (user and system, all
threads) and the load average before each run are recorded beside them.

A step of the optimiser is loss, gradient and Gauss-Newton matrix at the same parameters, with the same channels and
circuit, on the sums over 60 and over 600 frames; processor time of one thread, in turns, medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.io import write
from threadpoolctl import threadpool_limits

from qiskit_qff.model.config import TrainConfig, parse_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.defaults import LONG_REACH
from qiskit_qff.training.objective import Objective
from qiskit_qff.training.statistics import quadratic_statistics
from qiskit_qff.training.trainer import fit, loss_weights, prepare

RESULTS = Path(__file__).parents[1] / "results"


def run_once(data, folder, config):
    """Seconds, seconds of the processor, peak resident MiB and the load before, of one training process."""
    program = Path(sys.executable).with_name("qff")
    command = [str(program), "train", str(config), "--out", str(folder), "--force"]
    load, started = os.getloadavg()[0], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=data.parent) as process:
        message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{message}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, load


def measure(frames, count, folder, repeats, descriptor=None):
    data = folder / f"frames{count}.extxyz"
    write(data, [f.to_atoms() for f in frames[:count]], format="extxyz")
    config = folder / f"config{count}.yaml"
    config.write_text(json.dumps({"data": {"path": str(data), "split": "none"}, "descriptor": descriptor or {}}))
    runs = [run_once(data, folder / f"out{count}", config) for _ in range(repeats + 1)][1:]
    seconds, processor, memory, load = zip(*runs, strict=True)
    return {
        "n_frames": count,
        "descriptor": descriptor or "default",
        "repeats": repeats,
        "seconds_median": statistics.median(seconds),
        "seconds": list(seconds),
        "processor_seconds_median": statistics.median(processor),
        "processor_seconds": list(processor),
        "load_average": list(load),
        "peak_mib": max(memory),
    }


def optimiser_steps(frames, counts, repeats, steps):
    """Processor milliseconds a step on the sums over the first frames, in turns."""
    config = parse_config({"descriptor": LONG_REACH}, where="benchmark")
    few, many = (frames[:count] for count in counts)
    prepared = prepare(few, config)
    best = fit(prepared, rng=np.random.default_rng(0)).restarts[0].parameters
    sums = quadratic_statistics(
        many, prepared.maps, r_cut=config.descriptor.r_cut, weights=loss_weights(config), progress=lambda *_: None
    )
    layout = prepared.objective.layout
    objectives = (prepared.objective, Objective(sums, layout, shots=TrainConfig().loss.shots))
    times = [[] for _ in counts]
    with threadpool_limits(1):
        for _ in range(repeats + 1):
            for row, objective in zip(times, objectives, strict=True):
                begin = time.process_time()
                for _ in range(steps):
                    objective.quadratic_model(best)
                row.append(1e3 * (time.process_time() - begin) / steps)
    medians = [statistics.median(row[1:]) for row in times]
    return {
        "n_frames": list(counts),
        "n_trainable": layout.n_trainable,
        "ms_median": medians,
        "ms": [row[1:] for row in times],
        "ratio": medians[1] / medians[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="three shipped frames once, nothing written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.smoke:
            print(json.dumps(measure(read_shipped(), 3, Path(name), 1)))
            print(json.dumps(optimiser_steps(read_shipped(), (2, 4), 1, 2)))
            return
        frames = read_frames(arguments.data / "lips83.extxyz.xz")
        cases = ((60, None), (60, LONG_REACH), (600, None))
        rows = [measure(frames, count, Path(name), arguments.repeats, reach) for count, reach in cases]
    result = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all cores"),
        "runs": rows,
        "memory_ratio_600_to_60": rows[2]["peak_mib"] / rows[1]["peak_mib"],
        "optimiser_step": optimiser_steps(frames, (60, 600), 7, 20),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
