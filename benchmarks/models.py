"""The data sets, one model of `qff train` for each, and the records: what every benchmark shares.

`model_of` runs `qff train FILE --out DIRECTORY` with nothing else said, as a user would, the first time that a
benchmark asks for a set's model; all others take the same file. `record` writes a figure together with the version of
the package and the hashes of the models it was measured on, and the page says which versions its records are of.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase.io import write

from qiskit_qff import ForceField, TrainConfig, __version__
from qiskit_qff.structures.dataset import read_frames, read_shipped
from qiskit_qff.training.pipeline import read_training_data

HERE = Path(__file__).parent
RESULTS = HERE / "results"
QFF = (sys.executable, "-m", "qiskit_qff")
WORK = Path(os.environ.get("QFF_BENCHMARKS", "benchmark-runs"))
"""Models and trajectories, kept from call to call."""
DATA = Path(os.environ.get("QFF_DATA", "../shared/data"))
KEPT = HERE.parent / "notebooks" / "data" / "li6ps5cl_model.json"
"""A default model that need not be trained, for smoke runs."""
SHIPPED = {"limof5": "shipped", "li6ps5cl": "li6ps5cl", "li2tp": "li2tp"}
GIVEN = {
    "lips83": slice(0, 600),
    "li7p3s11_melt": slice(0, 450),
    "lgps50": slice(0, 771),
    "lgps50_end": slice(192, None),
}
"""Frames that training is given; all of the sets not named here."""
JUDGED = {
    "lips83": {"last 200": slice(600, None)},
    "li7p3s11_melt": {"frames 450-549": slice(450, 550), "frames 550-599": slice(550, None)},
    "lgps50": {"last fifth": slice(771, None)},
    "lgps50_end": {"first fifth": slice(0, 192)},
}
"""Frames that training was not given; of the other sets those that the run itself held out."""
DRAWS = {f"uio66_{seed}": seed for seed in range(5)}
"""Drawn sets: 12 of the 15 frames of UiO-66 to train on, 3 to judge by."""
WORDS = {
    "limof5": "shipped Li4@MOF-5",
    "li6ps5cl": "shipped Li6PS5Cl",
    "li7p3s11_melt": "molten Li7P3S11",
    "li4p2s6_melt": "molten Li4P2S6",
    "lgps50": "Li10GeP2S12",
    "uio66": "UiO-66",
    "li2tp": "shipped Li2TP, dilithium terephthalate",
}
"""What a set is, where its name does not say."""
SETS = ("lips83", "li7p3s11_melt", "lgps50", "lgps50_end", *DRAWS, "limof5", "li6ps5cl", "li2tp")


def file_of(name):
    """Data file of a set, or its shipped name; None if it is absent."""
    if name in SHIPPED:
        return SHIPPED[name]
    path = DATA / f"{name.split('_')[0] if name in DRAWS or name == 'lgps50_end' else name}.extxyz.xz"
    if not path.exists():
        print(f"{name}: {path} is absent, skipped", flush=True)
        return None
    return path


def frames_of(name):
    """Frames to train on, and frames to judge by per description; None if the set is absent."""
    source = file_of(name)
    if source is None:
        return None
    frames = read_shipped(source) if name in SHIPPED else read_frames(source)
    if name in DRAWS:
        order = np.random.default_rng(DRAWS[name]).permutation(len(frames))
        return [frames[k] for k in order[:12]], {"3 of 15": [frames[k] for k in order[12:]]}
    return frames[GIVEN.get(name, slice(None))], {words: frames[part] for words, part in JUDGED.get(name, {}).items()}


def train_run(source, folder):
    """Run `qff train` in a process of its own; wall and processor seconds and peak memory."""
    folder.mkdir(parents=True, exist_ok=True)
    if not isinstance(source, str):
        write(folder / "train.extxyz", [frame.to_atoms() for frame in source], format="extxyz")
        source = str(folder / "train.extxyz")
    command = [*QFF, "train", source, "--out", str(folder / "run"), "--force"]
    load, begin = os.getloadavg()[0], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)  # not getrusage: of several children it knows only the largest
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    cost = {"seconds": time.perf_counter() - begin, "processor_seconds": usage.ru_utime + usage.ru_stime}
    cost |= {"peak_mib": usage.ru_maxrss / 1024, "load_average": load}
    (folder / "cost.json").write_text(json.dumps(cost, indent=1) + "\n")
    return cost


def model_of(name):
    """The default model of a set, trained if it is not there yet; None if the set is absent."""
    folder = WORK / "models" / name
    if not (folder / "cost.json").exists():
        found = frames_of(name)
        if found is None:
            return None
        train_run(SHIPPED.get(name, found[0]), folder)
    return ForceField.load(folder / "run" / "model.json")


def judged(name):
    """Frames that the default model of a set was not trained on: those set aside, else those that the run held out."""
    given, blocks = frames_of(name)
    if blocks:
        return [frame for block in blocks.values() for frame in block]
    return read_training_data(given, TrainConfig()).held_out


def hash_of(name):
    """First digits of the SHA-256 of a set's model file."""
    return hashlib.sha256((WORK / "models" / name / "run" / "model.json").read_bytes()).hexdigest()[:12]


def record(name, content, models=()):
    """Write a record, with the version of the package and the models that it was measured on."""
    about = {"version": __version__, "models": {model: hash_of(model) for model in models}}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(about | content, indent=1) + "\n")


def read(name):
    """A record, whatever its version; None if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def recorded(name):
    """A record of this version, to go on with; None if there is none."""
    found = read(name)
    return found if found and found.get("version") == __version__ else None
