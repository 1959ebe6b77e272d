"""Time and memory of `qff train DATA` with its defaults, and of an optimiser's step: 100 and 600 frames of lips83.

    python benchmarks/speed/training.py [--data DIR] [--repeats 3] [--smoke]

Each run is a process of its own, started from the same environment; the time includes imports and, in the first run
on a machine, the compilation of the kernels (a warm-up run is not counted). Peak memory is the largest resident set
the operating system saw. Both sets have enough atoms for the same defaults (6 Å, products), so the ratio of their
memory is what the constant-memory claim rests on. On a busy machine wall times are upper bounds: processor time (user
and system, all threads) and the load average before each run are recorded beside them.

A step of the optimiser is loss, gradient and Gauss-Newton matrix of the larger set's model at its own parameters, on
the sums over 100 and over 600 frames; processor time of one thread, in turns, medians.
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

from ase.io import write
from threadpoolctl import threadpool_limits

from qiskit_qff import ForceField, load_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.warm_start import prepare_from_model

RESULTS = Path(__file__).parents[1] / "results"


def run_once(data, out):
    """Seconds, seconds of the processor, peak resident MiB and the load before, of one training process."""
    command = [sys.executable, "-m", "qiskit_qff", "train", str(data), "--out", str(out), "--force"]
    load, started = os.getloadavg()[0], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{message}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, load


def measure(frames, folder, repeats):
    """Runs on some frames behind a warm-up, or that alone; the model stays in ``folder/out``."""
    folder.mkdir()
    write(folder / "data.extxyz", [f.to_atoms() for f in frames], format="extxyz")
    runs = [run_once(folder / "data.extxyz", folder / "out") for _ in range(repeats + 1)]
    runs = runs[1:] or runs
    seconds, processor, memory, load = zip(*runs, strict=True)
    return {
        "n_frames": len(frames),
        "repeats": repeats,
        "seconds_median": statistics.median(seconds),
        "seconds": list(seconds),
        "processor_seconds_median": statistics.median(processor),
        "processor_seconds": list(processor),
        "load_average": list(load),
        "peak_mib": max(memory),
    }


def optimiser_steps(run, frames, counts, repeats, steps):
    """Processor milliseconds a step for the model of a run, on the sums over the first frames, in turns."""
    field, config = ForceField.load(run / "model.json"), load_config(run / "config.yaml")
    prepared = [prepare_from_model(frames[:n], config, field, progress=lambda *_: None) for n in counts]
    times = [[] for _ in counts]
    with threadpool_limits(1):
        for _ in range(repeats + 1):
            for row, (training, parameters) in zip(times, prepared, strict=True):
                begin = time.process_time()
                for _ in range(steps):
                    training.objective.quadratic_model(parameters)
                row.append(1e3 * (time.process_time() - begin) / steps)
    medians = [statistics.median(row[1:]) for row in times]
    return {
        "n_frames": list(counts),
        "n_trainable": field.n_trainable,
        "ms_median": medians,
        "ms": [row[1:] for row in times],
        "ratio": medians[1] / medians[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="ten shipped frames once, nothing written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.smoke:
            frames = read_shipped("li6ps5cl")
            print(json.dumps(measure(frames[:10], folder / "10", 0)))
            print(json.dumps(optimiser_steps(folder / "10" / "out", frames, (5, 10), 1, 2)))
            return
        frames, counts = read_frames(arguments.data / "lips83.extxyz.xz"), (100, 600)
        rows = [measure(frames[:n], folder / str(n), arguments.repeats) for n in counts]
        steps = optimiser_steps(folder / str(counts[-1]) / "out", frames, counts, 7, 20)
    result = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all cores"),
        "runs": rows,
        "memory_ratio": rows[1]["peak_mib"] / rows[0]["peak_mib"],
        "optimiser_step": steps,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
