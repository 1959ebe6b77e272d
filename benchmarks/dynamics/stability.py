"""Molecular dynamics of lips83 with a trained model: drift, stability, structure, time per step.

    python benchmarks/dynamics/stability.py [--data DIR] [--model model.json] [--seeds 3] [--smoke]

Trains on frames 0-599 unless a model is given. Per seed: NVE at 300 K for 20 ps and NVT (Bussi) at 520 K for 50 ps,
both 1 fs, 83 atoms; the first 5 ps of NVT are left out of the radial distribution functions, which are compared with
those of all 800 ab initio frames (120 bins to 6 Å; the error of a pair is the mean absolute difference over the bins).
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.report.figures import lines, save
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.radial_distribution import radial_distribution, radial_distribution_errors
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import Trajectory, read_trajectory
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.trainer import train

RESULTS = Path(__file__).parents[1] / "results"


def reference(frames):
    """Ab initio frames as a trajectory without time."""
    return Trajectory(
        numbers=frames[0].numbers,
        positions=np.array([f.positions for f in frames]),
        cells=np.array([f.cell for f in frames]),
        pbc=frames[0].pbc,
        times_ps=None,
    )


def simulate(field, frame, folder, **settings):
    return run_dynamics(frame.to_atoms(), field, MDSettings(**settings), folder)


def one_seed(field, start, expected, seed, folder, steps):
    nve = simulate(
        field, start, folder / f"nve{seed}", temperature_k=300.0, steps=steps[0], timestep_fs=1.0,
        ensemble="nve", seed=seed,
    )  # fmt: skip
    nvt = simulate(
        field, start, folder / f"nvt{seed}", temperature_k=520.0, steps=steps[1], timestep_fs=1.0,
        ensemble="nvt", seed=seed,
    )  # fmt: skip
    measured = radial_distribution(read_trajectory(nvt.trajectory).after(0.1 * nvt.time_ps))
    errors = radial_distribution_errors(measured, expected)
    row = {
        "seed": seed,
        "nve_ps": nve.time_ps,
        "nve_drift_mev_per_atom_per_ps": nve.drift_mev_per_atom_per_ps,
        "nve_lost_atoms": nve.lost_atoms,
        "nvt_ps": nvt.time_ps,
        "nvt_temperature_k": nvt.temperature_mean_k,
        "nvt_lost_atoms": nvt.lost_atoms,
        "rdf_mae": errors,
        "ms_per_step": nvt.ms_per_step,
    }
    return row, measured


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a few steps on the shipped set, nothing written")
    arguments = parser.parse_args()
    frames = read_shipped() if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    options = {"max_parameters": 40, "optimizer": {"restarts": 1}} if arguments.smoke else {}
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        field = train(frames[:600], parse_config(options, where="benchmark"), rng=np.random.default_rng(0)).force_field
    expected = radial_distribution(reference(frames))
    steps = (20, 20) if arguments.smoke else (20_000, 50_000)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1 if arguments.smoke else arguments.seeds):
            row, measured = one_seed(field, frames[0], expected, seed, Path(folder), steps)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if arguments.smoke:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stability_lips83.json").write_text(json.dumps({"runs": rows}, indent=1) + "\n")
    curves = {"NVT 520 K": measured.curves["all"], "ab initio": expected.curves["all"]}
    save(lines(measured.r, curves, x_label="r / Å", y_label="g(r)"), RESULTS / "rdf_lips83.png")


if __name__ == "__main__":
    main()
