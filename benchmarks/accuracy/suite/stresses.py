"""What fitting stresses costs in energies and forces, and what it brings, beside the default model."""

import numpy as np
from ase.units import GPa

from qiskit_qff import train
from qiskit_qff.errors import DataError
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare, measure
from suite.models import ERRORS

SETS = {"li6ps5cl": 5, "li4p2s6_melt": 2, "li7p3s11_melt": 2}
"""Sets that have stresses, and how many of their splits are tried."""
VOLUMES = "li6ps5cl_volumes"
"""Frames at volumes that the set they belong to lacks."""
SCALES = (None, 2.0)
FIRST_SCALES = (None, 4.0, 2.0, 1.0)
"""What stresses are fitted with, in meV/Å³; more of them on the first split."""
NOT_FITTED = "not fitted"
STRESS = "stress_mae_mev_per_ang3"


def run_scales(frames, way, settings, k):
    """Errors on the frames that a split holds out, by scale.

    Args:
        frames: All frames of the set.
        way: The split.
        settings: Changes of the default configuration.
        k: Its number: the seed, and whether all scales are tried.
    """
    chosen, test = [frames[i] for i in way.train], [frames[i] for i in way.test]
    entry = {"words": way.words, "n_train": len(chosen), "n_test": len(test), "seed": k}
    entry |= {f"n_{side}_stresses": sum(f.stress is not None for f in some) for side, some in
              (("train", chosen), ("test", test))}  # fmt: skip
    entry["scales"] = {}
    for scale in FIRST_SCALES if k == 0 else SCALES:
        field = train(chosen, config_of(settings, scale, seed=k)).force_field
        entry["scales"][name_of(scale)] = {"n_trainable": field.n_trainable} | errors(field, test)
    return entry


def run_volumes(frames, others, settings):
    """What models of all frames of one volume make of the pressure at others.

    Args:
        frames: All frames of the set.
        others: Frames at several volumes; the last but one is where energies are counted from.
        settings: Changes of the default configuration.
    """
    found = {}
    for scale in SCALES:
        field = train(frames, config_of(settings, scale)).force_field
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
    return {"n_train": len(frames), "volumes": found}


def config_of(settings, scale, seed=0):
    """Train on all frames given, with stresses fitted or not."""
    own = {"data": {"split": "none"}, "loss": {"stress_scale_mev_per_ang3": scale}, "seed": seed}
    return parse_config(settings | own, where="stresses")


def name_of(scale):
    """A scale as records have it."""
    return NOT_FITTED if scale is None else f"{scale:g}"


def errors(field, frames):
    """Errors of energies, forces and stresses, and by how much the mean stress along the axes is off."""
    found = [field.predict(frame) for frame in frames]
    stresses = [p.stress(f.volume) for p, f in zip(found, frames, strict=True)]
    pairs = compare(frames, energies=[p.energy for p in found], forces=[p.forces for p in found], stresses=stresses)
    metrics = measure(pairs)
    if metrics.stress_mae_mev_per_ang3 is None:
        raise DataError("no frame that is held out has a stress")
    known = {key: round(getattr(metrics, key), 4) for key in (*ERRORS, STRESS)}
    off = 1e3 * (pairs.predicted_stresses - pairs.stresses)[:, :3].mean(axis=1)
    return known | {"mean_stress_off_mev_per_ang3": float(off.mean()), "mean_stress_std_mev_per_ang3": float(off.std())}
