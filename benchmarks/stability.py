"""Stability of molecular dynamics: NVT runs, NVE drift, NPT volumes, radial distributions, and 2x2x2 supercells.

    python benchmarks/stability.py [--systems NAME ...] [--seeds 5] [--ps 100]
        [--kinds nvt nve npt supercell] [--work DIR] [--smoke]

| system | trained on | NVT | step |
|---|---|---|---|
| lips83, 83 atoms | frames 0-599 | 520 K | 1 fs |
| li6ps5cl, shipped, 104 atoms | all frames | 600 K | 1 fs |
| uio66, 114 atoms | all 15 frames | 300 K | 0.5 fs |
| limof5, shipped, 110 atoms | all frames | 300 K | 0.5 fs |
| limof5_li2, limof5_li0: 108 and 106 atoms, the same model | | 300 K | 0.5 fs |
| li6ps5cl_stress: as li6ps5cl, stresses of its 28 frames that have one fitted too | | 600 K | 1 fs |
| li2tp, 108 atoms (shipped); li2tp_450: the same model | all frames | 300 K, 450 K | 0.5 fs |

Walls around the training data as in `qff md`; Bussi thermostat; each seed has its own velocities and starts from
another frame (every seventh; frames whose framework lacks bonds are left out). A run survives if it completes and no
bond of its first frame (`qiskit_qff.structures.dataset.bonded`) is broken in any recorded frame. If there is a
reference trajectory, radial distributions (without the first tenth of the run, 120 bins to 6 Å) are compared with it;
the error of a pair is the mean absolute difference over the bins. NVE starts where the NVT run of seed 0 ended, with
new velocities and half the time step; the drift is the slope of a straight line through the conserved quantity. NPT
starts there too and takes a fifth of the time, isotropic, at no pressure; its volume is the mean of the second half
over the first one.

Every finished run is written at once, and a second call continues where the first was stopped (`--work` keeps models
and trajectories).
"""

import argparse
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from models import file_of

from qiskit_qff import train
from qiskit_qff.errors import SimulationError
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.analysis import bond_report, radial_distribution, radial_distribution_errors
from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.simulation.trajectory import Trajectory, read_trajectory
from qiskit_qff.simulation.transport import mean_squared_displacements
from qiskit_qff.structures.dataset import NAMES, missing_bonds, read_frames, read_shipped

RESULTS = Path(__file__).parent / "results" / "stability.json"
KINDS = ("nvt", "nve", "npt", "supercell")
COOL = {"temperature_K": 300.0}
SHARE = {"npt": 0.2}
"""How much shorter than the others some runs are."""
SMALL = {"max_parameters": 40, "descriptor": {"r_cut": 4.5, "l_max": 1}}


@dataclass(frozen=True)
class System:
    """One system and how it is run."""

    temperature_k: float
    timestep_fs: float
    n_train: int | None = None
    has_reference: bool = False
    start_tags: dict[str, object] = field(default_factory=dict)
    like: str | None = None
    """System whose frames are used, and its model unless stresses are fitted."""
    stress_scale: float | None = None
    kinds: tuple[str, ...] = KINDS


SYSTEMS = {
    "lips83": System(520.0, 1.0, n_train=600, has_reference=True),
    "li6ps5cl": System(600.0, 1.0, has_reference=True),
    "uio66": System(300.0, 0.5),
    "limof5": System(300.0, 0.5, start_tags={"replica": "A"}),
    "limof5_li2": System(300.0, 0.5, start_tags=COOL | {"config_type": "li2mof5"}, like="limof5", kinds=("nvt",)),
    "limof5_li0": System(300.0, 0.5, start_tags=COOL | {"config_type": "mof5"}, like="limof5", kinds=("nvt",)),
    "li6ps5cl_stress": System(600.0, 1.0, has_reference=True, like="li6ps5cl", stress_scale=2.0, kinds=KINDS[:3]),
    "li2tp": System(300.0, 0.5, start_tags={"temperature_K": 300.0}, kinds=KINDS[:2]),
    "li2tp_450": System(450.0, 0.5, start_tags={"temperature_K": 450.0}, like="li2tp", kinds=("nvt",)),
}


def model_of(name, system, frames, work, *, options):
    """The trained model, kept from call to call."""
    path = work / f"{name}.json"
    if not path.exists():
        settings = {"data": {"split": "none"}, "loss": {"stress_scale_mev_per_ang3": system.stress_scale}}
        train(frames[: system.n_train], parse_config(options | settings, where="benchmark")).force_field.save(path)
    return ForceField.load(path)


def starts_of(system, frames):
    """Frames that runs may start from: unrattled, with the requested tags, and whole."""
    asked, broken = system.start_tags.items(), missing_bonds(frames)
    return [
        f
        for k, f in enumerate(frames)
        if k not in broken and not f.tags.get("rattle") and all(f.tags.get(key) == value for key, value in asked)
    ]


def reference(frames):
    """Radial distributions of the ab initio frames, those of its equilibration left out."""
    frames = [f for f in frames if f.tags.get("part") != "equilibration"]
    positions, cells = np.array([f.positions for f in frames]), np.array([f.cell for f in frames])
    return radial_distribution(Trajectory(frames[0].numbers, positions, cells, frames[0].pbc, times_ps=None))[0]


def averages(values, count=50):
    """Means of equal parts of a series, rounded for the record."""
    return [round(float(part.mean()), 4) for part in np.array_split(values, min(count, len(values)))]


def structure_and_transport(trajectory, log, frames, system, *, with_curves):
    """Temperature over time, radial distributions beside ab initio ones, and displacements of lithium."""
    row = {"heat": {"time_ps": averages(log["time_fs"] / 1e3), "temperature_k": averages(log["temperature_k"])}}
    settled = trajectory.after(0.1 * trajectory.times_ps[-1])
    if 3 in settled.numbers and settled.n_frames >= 100:
        walk = mean_squared_displacements(settled)
        row["lithium"] = {"lag_ps": walk["lag_ps"].round(4).tolist(), "msd_ang2": walk["Li"].round(4).tolist()}
    if system.has_reference:
        measured, expected = radial_distribution(settled)[0], reference(frames)
        row["rdf_mae"] = radial_distribution_errors(measured, expected)
        if with_curves:
            pairs = {name: [found[name].round(3).tolist() for found in (measured, expected)]
                     for name in measured if name not in {"r_ang", "all"}}  # fmt: skip
            row["rdf"] = {"r_ang": measured["r_ang"].round(4).tolist(), "pairs": pairs}
    return row


def volume_of(cells, first):
    """Mean volume over the first, with the standard error of five blocks."""
    volumes = np.abs(np.linalg.det(cells)) / first
    settled = volumes[len(volumes) // 2 :]  # the barostat's time is 1 ps: the first half is left to it
    blocks = [part.mean() for part in np.array_split(settled, min(5, len(settled)))]
    error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else None
    return {"volume_ratio": float(settled.mean()), "volume_error": error}


def run_one(name, system, potential, frames, starts, work, *, kind, seed, ps):
    """One run; what became of it as plain numbers."""
    start, folder = starts[(7 * seed) % len(starts)], work / f"{name}-{kind}-{seed}-{ps:g}ps"
    before = work / f"{name}-nvt-{seed}-{ps / SHARE.get(kind, 1.0):g}ps" / "trajectory.extxyz"
    if kind in ("nve", "npt") and before.exists():
        start = replace(start, positions=read_trajectory(before).positions[-1])
    timestep = system.timestep_fs * (0.5 if kind == "nve" else 1.0)
    settings = MDSettings(
        temperature_k=system.temperature_k,
        steps=round(ps * 1e3 / timestep),
        timestep_fs=timestep,
        ensemble=kind if kind in ("nve", "npt") else "nvt",
        seed=seed,
        interval=round(50.0 / timestep),
        checkpoint_interval=5000,
    )
    atoms = start.to_atoms() * ((2, 2, 2) if kind == "supercell" else (1, 1, 1))
    row = {"system": name, "kind": kind, "seed": seed, "n_atoms": len(atoms), "asked_ps": ps, "failure": None}
    try:
        summary = run_dynamics(atoms, potential, settings, folder)
    except SimulationError as error:
        time_ps = int(re.search(r"step (\d+)", str(error))[1]) * timestep / 1e3
        return row | {"time_ps": time_ps, "failure": str(error).split(". ")[0], "survived": False}
    trajectory = read_trajectory(summary.trajectory)
    bonds, drift = bond_report(trajectory), summary.drift_mev_per_atom_per_ps
    row |= {
        "time_ps": summary.time_ps,
        "temperature_k": summary.temperature_mean_k,
        "drift_mev_per_atom_per_ps": drift if np.isfinite(drift) else None,
        "n_bonds": bonds["n_bonds"],
        "fewest_bonds": bonds["bond_persistence_min"],
        "survived": bonds["bond_persistence_min"] == 1.0,
    }
    if kind == "npt":
        row |= volume_of(trajectory.cells, atoms.get_volume())
    if kind == "nvt":
        log = read_log(summary.log)
        row |= structure_and_transport(trajectory, log, frames, system, with_curves=seed == 0)
    return row


def recorded():
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("stability-runs"))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ps", type=float, default=100.0)
    parser.add_argument("--smoke", action="store_true", help="a few steps of the shipped electrolyte, nothing recorded")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    known = set() if given.smoke else {(r["system"], r["kind"], r["seed"], r["asked_ps"]) for r in recorded()}
    for name in ["li6ps5cl"] if given.smoke else given.systems:
        system, like = SYSTEMS[name], SYSTEMS[name].like or name
        frames = read_shipped(like) if like in NAMES else read_frames(file_of(like))
        of = like if system.stress_scale is None else name
        potential = model_of(of, system, frames, given.work, options=SMALL if given.smoke else {}).within_walls()
        starts = starts_of(system, frames)
        for kind in (k for k in given.kinds if k in system.kinds):
            ps = SHARE.get(kind, 1.0) * (0.2 if given.smoke else given.ps)
            for seed in range(given.seeds if kind == "nvt" and not given.smoke else 1):
                if (name, kind, seed, ps) in known:
                    continue
                row = run_one(name, system, potential, frames, starts, given.work, kind=kind, seed=seed, ps=ps)
                print(json.dumps(row), flush=True)
                if not given.smoke:
                    # Read anew, so that several systems can run side by side.
                    lines = ",\n".join(json.dumps(run) for run in [*recorded(), row])
                    RESULTS.write_text(f'{{"runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
