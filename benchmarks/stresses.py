"""What fitting stresses costs in energies and forces, and what it brings, beside the default model.

    python benchmarks/stresses.py [--smoke]

Blocks of three trajectories are held out, with a gap of frames on either side. All frames of one volume of Li6PS5Cl are
then asked for the pressure at others. Sets that are absent are skipped by name; results are written as they come.
"""

import argparse
import json

import models
import numpy as np
from ase.units import GPa

from qiskit_qff import train
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare_model, measure
from qiskit_qff.structures.dataset import read_frames, read_shipped

BLOCKS = {
    "li6ps5cl": [(start, start + 24, 20) for start in (96, 0, 24, 48, 72)],
    "li4p2s6_melt": [(320, 400, 20), (0, 80, 20)],
    "li7p3s11_melt": [(500, 600, 50), (0, 100, 50)],
}
"""First frame held out, the one after the last, and the gap."""
VOLUMES = "li6ps5cl_volumes"
SCALES, FIRST_SCALES = (None, 2.0), (None, 4.0, 2.0, 1.0)
"""What stresses are fitted with, in meV/Å³; more of them on the first block of a set."""
ERRORS = ("energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_ang", "force_rmse_mev_per_ang")
STRESS = "stress_mae_mev_per_ang3"


def model_of(frames, scale, seed=0, **settings):
    """Train on all frames given, with stresses fitted or not."""
    own = {"data": {"split": "none"}, "loss": {"stress_scale_mev_per_ang3": scale}, "seed": seed}
    return train(frames, parse_config(own | settings, where="stresses")).force_field


def name_of(scale):
    """A scale as the record has it."""
    return "not fitted" if scale is None else f"{scale:g}"


def errors(field, frames):
    """Errors of energies, forces and stresses, and by how much the mean stress along the axes is off."""
    pairs = compare_model(field, frames)
    metrics = measure(pairs)
    off = 1e3 * (pairs.predicted_stresses - pairs.stresses)[:, :3].mean(axis=1)
    known = {key: round(getattr(metrics, key), 4) for key in (*ERRORS, STRESS)}
    return known | {"mean_stress_off_mev_per_ang3": float(off.mean()), "mean_stress_std_mev_per_ang3": float(off.std())}


def blocks(name, frames, settings):
    """Errors of every block that is held out, by scale."""
    for k, (start, stop, gap) in enumerate(BLOCKS[name]):
        chosen = [f for i, f in enumerate(frames) if i < start - gap or i >= stop + gap]
        scales = {}
        for scale in FIRST_SCALES if k == 0 else SCALES:
            field = model_of(chosen, scale, seed=k, **settings)
            scales[name_of(scale)] = {"n_trainable": field.n_trainable} | errors(field, frames[start:stop])
        yield f"{name}, frames {start}-{stop - 1}", {"set": name, "n_train": len(chosen), "seed": k, "scales": scales}


def volumes():
    """What models of all frames of one volume make of the pressure at others; energies from the last but one."""
    frames, others, found = read_shipped("li6ps5cl"), read_shipped(VOLUMES), {}
    for scale in SCALES:
        field = model_of(frames, scale)
        predicted = [field.predict(frame) for frame in others]
        found[name_of(scale)] = [
            {
                "row": frame.tags["row"],
                "linear_scale": frame.tags["linear_scale"],
                "mean_stress_gpa": [float(np.trace(s) / 3.0 / GPa) for s in (frame.stress, p.stress(frame.volume))],
                "energy_ev": [frame.energy - others[-2].energy, p.energy - predicted[-2].energy],
                "force_mae_mev_per_ang": float(1e3 * np.abs(p.forces - frame.forces).mean()),
            }
            for frame, p in zip(others, predicted, strict=True)
        ]
    return {"set": VOLUMES, "n_train": len(frames), "volumes": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small model of one block, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke:
        small = {"descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1, "products": 0}, "max_parameters": 20}
        print(json.dumps(next(blocks("li6ps5cl", read_shipped("li6ps5cl"), small))))
        return
    entries = {}
    for name in BLOCKS:
        path = models.DATA / f"{name}.extxyz.xz"
        if name != "li6ps5cl" and not path.exists():
            print(f"{name}: not in {models.DATA}, skipped", flush=True)
            continue
        for key, entry in blocks(name, read_shipped(name) if name == "li6ps5cl" else read_frames(path), {}):
            print(key, json.dumps(entry), flush=True)
            entries[key] = entry
            models.record("stresses", {"entries": entries})
    entries[VOLUMES] = volumes()
    models.record("stresses", {"entries": entries})


if __name__ == "__main__":
    main()
