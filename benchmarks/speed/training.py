"""Wall time and peak memory of `qff train`, from file to model.json, for 60 and 600 frames of lips83.

    python benchmarks/speed/training.py [--data DIR] [--repeats 3] [--smoke]

Each run is a process of its own, started from the same environment; the time includes imports and, in the first run
on a machine, the compilation of the kernels (a warm-up run is not counted). Peak memory is the largest resident set
the operating system saw. The ratio of the two is what the constant-memory claim rests on. On a busy machine wall
times are upper bounds: processor time (user and system, all threads) and the load average before each run are recorded
beside them. With OMP_NUM_THREADS=1 processor time is what an idle core needs at most.
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

from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped

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


def measure(frames, count, folder, repeats):
    data = folder / f"frames{count}.extxyz"
    write(data, [f.to_atoms() for f in frames[:count]], format="extxyz")
    config = folder / f"config{count}.yaml"
    config.write_text(f"data: {{path: {data}, split: none}}\n")
    runs = [run_once(data, folder / f"out{count}", config) for _ in range(repeats + 1)][1:]
    seconds, processor, memory, load = zip(*runs, strict=True)
    return {
        "n_frames": count,
        "repeats": repeats,
        "seconds_median": statistics.median(seconds),
        "seconds": list(seconds),
        "processor_seconds_median": statistics.median(processor),
        "processor_seconds": list(processor),
        "load_average": list(load),
        "peak_mib": max(memory),
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
            return
        frames = read_frames(arguments.data / "lips83.extxyz.xz")
        rows = [measure(frames, count, Path(name), arguments.repeats) for count in (60, 600)]
    threads = os.environ.get("OMP_NUM_THREADS", "all cores")
    result = {"threads": threads, "runs": rows, "memory_ratio_600_to_60": rows[1]["peak_mib"] / rows[0]["peak_mib"]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
