"""The accuracy suite: every set, split, seed, baseline, curve, transfer and ablation, in one resumable run.

    python benchmarks/accuracy/run_all.py [--data DIR] [--sets ...] [--parts ...] [--splits N] [--fresh] [--smoke]
    python benchmarks/render.py

Every job is written into benchmarks/results when it is done. A second run does what is missing or was made with other
sources of the model (`--keep`: only what is missing; `--fresh`: everything). Sets that are absent are skipped by name.

Parts. splits: the quantum model and all baselines, at most five splits of a set (uio66: five groupings), with errors by
element and temperature; models of the first split also on supercells and on the other Li-P-S sets. temperature: limof5,
one temperature left out. joint: two Li-P-S compositions to a third. stresses: with these fitted and without. curves:
over frames, parameters and qubits. ablations: parts of the model taken away. uncertainty: `uncertainty.py`, which
writes a result of its own.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

from suite import data, jobs, records

from qiskit_qff.cli.baseline_run import NAMES
from qiskit_qff.errors import QFFError
from qiskit_qff.model.config import parse_config

TINY = {
    "descriptor": {"r_cut": 3.5, "n_narrow": 4, "n_broad": 2, "powers": [2, 6], "n_radial": 2, "l_max": 1},
    "compression": {"selection_frames": 6},
    "optimizer": {"restarts": 1, "max_iterations": 10},
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def smoke():
    """Every kind of job on frames and a pool that are tiny; nothing is written."""
    jobs.CURVE_SET, jobs.CURVE_FRAMES, jobs.ABLATION_FRAMES, jobs.ABLATION_TESTS = "limof5", 4, 4, 2
    jobs.PARAMETERS, jobs.QUBITS = (12, 40), (1, 3)
    names = [name for name in NAMES if name != "mlp"]
    for job in (
        jobs.Job("splits", "", "split", ("limof5", 0)),
        jobs.Job("temperature", "", "temperature", (2,)),
        jobs.Job("curves", "", "frames", ("frames", 0, "limof5", 4)),
        jobs.Job("curves", "", "parameters", ("parameters", 0)),
        jobs.Job("stresses", "", "split", ("li6ps5cl", 1)),
        jobs.Job("ablations", "", "tree_n3", ("tree_n3", 0)),
        jobs.Job("ablations", "", "normalised_small", ("normalised_small", 0)),
    ):
        entry = records.plain(jobs.run(job, ".", TINY, names))
        print(f"{job.part} {job.key}: {jobs.headline(entry)} ({entry['seconds']:.0f} s)", flush=True)


def stale(job, mark, arguments):
    """Whether a job has to be run."""
    record = records.read(job.file)
    entry = record if job.part == jobs.UNCERTAINTY else record["entries"].get(job.key)
    if entry is None or arguments.fresh:
        return True
    return entry.get("made_with") != mark and not arguments.keep


def end_with_parent():
    """Let a worker end when whoever started it was killed; its job would go on for minutes otherwise, for nobody."""
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def run_jobs(waiting, arguments, config, marks):
    """Run the jobs, write what they say, and return those that failed."""
    begin, failed = time.perf_counter(), []
    os.environ.update(dict.fromkeys(THREADS, "1"))
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), end_with_parent) as pool:
        futures = {pool.submit(jobs.run, job, str(arguments.data)): job for job in waiting}
        for done, future in enumerate(as_completed(futures), 1):
            job, minutes = futures[future], (time.perf_counter() - begin) / 60
            place = f"{minutes:5.1f} min, {done}/{len(waiting)}: {job.file} {job.key}"
            if future.cancelled():
                continue
            if arguments.minutes is not None and minutes > arguments.minutes:
                for other in futures:
                    other.cancel()
            try:
                entry = future.result()
            except (QFFError, ArithmeticError, ValueError, KeyError, subprocess.SubprocessError) as error:
                # One job that fails must not cost the others; it is told, and the exit code is 1.
                failed.append(job)
                print(f"{place}: FAILED: {type(error).__name__}: {error}", flush=True)
                continue
            mark = marks[jobs.is_of_shipped_set(job)]
            if job.part == jobs.UNCERTAINTY:
                records.write(job.file, records.read(job.file) | {"made_with": mark})
            else:
                header = jobs.about(job) | {"config": config.model_dump(mode="json", exclude={"data"})}
                records.write_entry(job.file, job.key, entry | {"made_with": mark}, header)
            spent = f"{entry['seconds']:.0f} s, {entry['processor_seconds']:.0f} s of work"
            print(f"{place}: {jobs.headline(entry)} ({spent})", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--sets", nargs="+", default=list(data.SETS), choices=data.SETS)
    parser.add_argument("--parts", nargs="+", default=jobs.PARTS, choices=jobs.PARTS)
    parser.add_argument("--splits", type=int, default=5, help="most splits of a set, and seeds of a curve")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="begin no job after that time; run again for the rest")
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--keep", action="store_true", help="keep results made with other sources of the model")
    parser.add_argument("--dry-run", action="store_true", help="list what would run")
    parser.add_argument("--smoke", action="store_true", help="tiny jobs of every kind on the shipped set, not written")
    arguments = parser.parse_args()
    if arguments.smoke:
        smoke()
        return
    present = [name for name in data.SETS if data.load(name, str(arguments.data)) is not None]
    for name in set(arguments.sets) - set(present):
        print(f"{name}: not in {arguments.data}, skipped")
    sets, config = [name for name in present if name in arguments.sets], parse_config({}, where="default")
    marks = {shipped: records.fingerprint(config, shipped=shipped) for shipped in (False, True)}
    everything = jobs.all_jobs(sets, arguments.parts, arguments.splits, str(arguments.data))
    waiting = [job for job in everything if stale(job, marks[jobs.is_of_shipped_set(job)], arguments)]
    told = f"sources {marks[False]}, with the shipped sets {marks[True]}"
    print(f"{len(waiting)} of {len(everything)} jobs to run, {told}", flush=True)
    if arguments.dry_run:
        print("\n".join(f"{job.file}: {job.key}" for job in waiting))
        return
    failed = run_jobs(waiting, arguments, config, marks) if waiting else []
    possible = jobs.all_jobs(present, jobs.PARTS, 5, str(arguments.data))
    for file in {job.file for job in everything} - {jobs.UNCERTAINTY}:
        records.arrange(file, [job.key for job in possible if job.file == file])
    if failed:
        sys.exit(f"{len(failed)} jobs failed; run again to repeat them")


if __name__ == "__main__":
    main()
