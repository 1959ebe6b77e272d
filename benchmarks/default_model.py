"""The models of `qff train DATA`, nothing else said: errors on frames they never had, and what training takes.

    python benchmarks/default_model.py [--smoke]

`qff train` runs as a user would run it, in a process of its own, whose wall time and peak memory count; `qff evaluate`
judges the model on frames that training was not given, or, of the shipped sets, on those that the run held out. Beside
it stands the linear model on the same channels. Kernels are compiled beforehand, by a training on ten frames. Of a set
drawn several times (uio66) the mean counts. Wall times on a busy machine are upper bounds: the load is recorded.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import models
from ase.io import write

from qiskit_qff.structures.dataset import read_shipped

REQUIRED = {
    "lips83, last 200": (68.0, 1.15),
    "li7p3s11_melt, frames 450-549": (225.0, None),
    "li7p3s11_melt, frames 550-599": (305.0, None),
    "lgps50, last fifth": (90.0, 3.2),
    "lgps50, first fifth": (90.0, 3.2),
    "uio66, 3 of 15": (70.0, 0.8),
    "li2tp, held out by the run": (70.0, 0.6),
}
"""Force MAE in meV/Å and energy MAE in meV/atom, at most."""
ERRORS = ("force_mae_mev_per_ang", "energy_mae_mev_per_atom")


def evaluate(frames, run):
    """Errors on frames that the model never had."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "others.extxyz"
        write(path, [f.to_atoms() for f in frames], format="extxyz")
        command = [*models.QFF, "evaluate", str(run), str(path), "--held-out", "--json"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.splitlines()[-1])


def rows_of(name, folder, judged):
    """A row for each block of frames."""
    said = json.loads((folder / "run" / "metrics.json").read_text())
    label = "uio66" if name in models.DRAWS else name.removesuffix("_end")
    about = {"set": label, "n_given": said["train"]["n_frames"] + said["test"]["n_frames"]}
    about |= {"n_trainable": said["n_trainable"]} | json.loads((folder / "cost.json").read_text())
    about |= {"linear": {key: said["linear_test"][key] for key in ERRORS}}
    about |= {"own": {key: said["test"][key] for key in ERRORS}}
    blocks = {words: evaluate(frames, folder / "run") for words, frames in judged.items()}
    for words, errors in (blocks or {"held out by the run": said["test"]}).items():
        yield about | {"judged": f"{label}, {words}"} | {key: errors[key] for key in ("n_frames", *ERRORS)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few shipped frames, nothing written")
    shipped = read_shipped("li6ps5cl")
    with tempfile.TemporaryDirectory() as folder:
        compiling = models.train_run(shipped[:10], Path(folder))["seconds"]
        if parser.parse_args().smoke:
            for row in rows_of("li6ps5cl", Path(folder), {"3 others": shipped[10:13]}):
                print(json.dumps(row))
            return
    rows, done = [], []
    for name in models.SETS:
        if models.model_of(name) is None:
            continue
        for row in rows_of(name, models.WORK / "models" / name, models.frames_of(name)[1]):
            print(json.dumps(row), flush=True)
            rows.append(row)
        done.append(name)
        about = {"cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS", "all cores")}
        models.record("default_model", about | {"first_run_seconds": compiling, "rows": rows}, done)


if __name__ == "__main__":
    main()
