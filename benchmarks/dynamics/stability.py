"""Molecular dynamics that has to last: NVT runs of four systems, NVE drift, structure, and 2x2x2 supercells.

    python benchmarks/dynamics/stability.py [--systems NAME ...] [--seeds 5] [--ps 100]
        [--kinds nvt windows nve npt supercell] [--bare] [--held] [--work DIR] [--data DIR] [--smoke]

| system | trained on | NVT | step |
|---|---|---|---|
| lips83, 83 atoms | frames 0-599 | 520 K | 1 fs |
| li6ps5cl, shipped, 104 atoms | all frames | 600 K | 1 fs |
| uio66, 114 atoms | all 15 frames | 300 K | 0.5 fs |
| limof5, shipped, 110 atoms | all frames | 300 K | 0.5 fs |
| limof5_li2, limof5_li0: 108 and 106 atoms, the same model | | 300 K | 0.5 fs |
| li6ps5cl_stress: as li6ps5cl, stresses of its 28 frames that have one fitted too | | 600 K | 1 fs |

Runs are within walls around the training data (`qiskit_qff.model.fence`), as those of `qff md` are; with `--bare` none.
With `--held` bonds of the first frame have walls as well, as by `qff md --hold-bonds`.

Bussi thermostat, every seed with velocities of its own, from every seventh of the frames that may be begun with (two of
limof5, three of limof5_li2, two of limof5_li0; frames whose nodes came apart are none); limof5 (four lithium ions),
limof5_li2 and limof5_li0 start from frames of that loading sampled at 300 K (the last two, NVT only, show what the ions
have to do with it). A run has survived if it comes to its end and no bond of its first frame (that of a mobile ion
never is one) is broken in any recorded frame; both are recorded apart. Where there is a reference trajectory, radial
distributions (all but the first tenth of the run, 120 bins to 6 Å) are compared with its own; the error of a pair is
the mean absolute difference over the bins. Diffusivities of lithium are from the same part of the run, with the
standard error of its five blocks. A reference of a fraction of a picosecond is little more than one still picture; how
far parts of the model's own run that are as long, and as finely recorded, are from the whole of it says what agreement
can be expected (windows: from where seed 0 ended). NVE: from where the NVT run of seed 0 ended, new velocities, half
the time step; the drift is the slope of a straight line through the conserved quantity. NPT: from there as well, a
fifth of the time, isotropic, no pressure; the mean volume of its second half over the first one, and the model's
pressure on the first structure at rest. Supercell: seed 0, NVT. Every finished run is written at once, and a second
call goes on where the first was stopped, in the middle of a run too (`--work` keeps models and trajectories).
"""

import argparse
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.units import GPa
from suite.systems import KINDS, SYSTEMS, frames_of, model_of, starts_of

from qiskit_qff.errors import SimulationError
from qiskit_qff.model.fence import STRENGTH, FencedForceField, within_walls
from qiskit_qff.simulation.bonds import bond_report
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.diffusion import CM2_PER_S, mean_squared_displacements, transport
from qiskit_qff.simulation.dynamics import run_dynamics
from qiskit_qff.simulation.held_bonds import HeldBonds
from qiskit_qff.simulation.radial_distribution import radial_distribution, radial_distribution_errors
from qiskit_qff.simulation.recording import read_log
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import Trajectory, read_trajectory

RESULTS = Path(__file__).parents[1] / "results" / "stability.json"
LITHIUM = 3
SHARE = {"npt": 0.2}
"""How much shorter than the others some runs are."""
WINDOWS = 60
"""How many parts as long as a reference."""
PER_FRAME = ("positions", "cells", "times_ps")
"""What a trajectory has of every frame."""
FEWEST_FRAMES = 100
"""That a diffusivity is read off."""
SMALL = {"max_parameters": 40, "optimizer": {"restarts": 1}, "descriptor": {"r_cut": 4.5, "l_max": 1}}


def reference(frames):
    """Ab initio frames as a trajectory without time, those of its equilibration left out."""
    frames = [f for f in frames if f.tags.get("part") != "equilibration"]
    return Trajectory(
        numbers=frames[0].numbers,
        positions=np.array([f.positions for f in frames]),
        cells=np.array([f.cell for f in frames]),
        pbc=frames[0].pbc,
        times_ps=None,
    )


def averages(values, count=50):
    """Means of equal parts of a series, rounded for the record."""
    return [round(float(part.mean()), 4) for part in np.array_split(values, min(count, len(values)))]


def heat(folder):
    """Temperature over time, for the figure."""
    log = read_log(folder / "log.csv")
    return {"time_ps": averages(log["time_fs"] / 1e3), "temperature_k": averages(log["temperature_k"])}


def distributions(measured, expected):
    """Both radial distributions of every pair, for the figure."""
    pairs = {name: [[round(float(g), 3) for g in found.curves[name]] for found in (measured, expected)]
             for name in measured.curves if name != "all"}  # fmt: skip
    return {"r_ang": [round(float(r), 4) for r in measured.r], "pairs": pairs}


def lithium(trajectory):
    """Diffusivity (None where lithium is caged) and mean square displacement of lithium."""
    found, walk = transport(trajectory, "Li").tracer, mean_squared_displacements(trajectory)
    return {
        "cm2_per_s": None if found is None else found.value * CM2_PER_S,
        "error_cm2_per_s": None if found is None else found.error * CM2_PER_S,
        "lag_ps": [round(float(lag), 4) for lag in walk.lag_ps],
        "msd_ang2": [round(float(value), 4) for value in walk.curves["Li"]],
    }


def finite(number):
    """The number, or None for JSON."""
    return number if np.isfinite(number) else None


def simulate(system, potential, start, folder, *, kind, seed, ps, held):
    """One run; what became of it as plain numbers."""
    timestep = system.timestep_fs * (0.5 if kind == "nve" else 1.0)
    settings = MDSettings(
        temperature_k=system.temperature_k,
        steps=round(ps * 1e3 / timestep),
        timestep_fs=timestep,
        ensemble=kind if kind in ("nve", "npt") else "nvt",
        seed=seed,
        interval=round(50.0 / timestep),
        checkpoint_interval=5000,
        velocities=False,
    )
    atoms = start.to_atoms() * ((2, 2, 2) if kind == "supercell" else (1, 1, 1))
    row = {"n_atoms": len(atoms), "asked_ps": ps, "failure": None}
    potential = HeldBonds.of(potential, atoms) if held else potential
    try:
        summary = run_dynamics(atoms, potential, settings, folder)
    except SimulationError as error:
        step = int(re.search(r"step (\d+)", str(error))[1])
        return row | {"time_ps": step * timestep / 1e3, "failure": str(error).split(". ")[0]}
    trajectory = read_trajectory(summary.trajectory)
    bonds = bond_report(trajectory)
    if held:
        walls = np.array(
            [potential.walls(*frame) for frame in zip(trajectory.positions, trajectory.cells, strict=True)]
        )
        row |= {"share_felt": float((walls > 0.0).mean()), "largest_wall_ev": float(walls.max())}
    if kind == "npt":
        row |= volume_of(trajectory.cells, atoms, potential)
    return row | {
        "time_ps": summary.time_ps,
        "temperature_k": summary.temperature_mean_k,
        "drift_mev_per_atom_per_ps": finite(summary.drift_mev_per_atom_per_ps),
        "ms_per_step": finite(summary.ms_per_step),
        "lost_atoms": summary.lost_atoms,
        "n_bonds": bonds.n_bonds,
        "fewest_bonds": float(bonds.persistence.min()),
        "broken_at_end": len(bonds.broken),
    }, trajectory  # fmt: skip


def volume_of(cells, atoms, potential):
    """Mean volume over the first, with the standard error of five blocks; pressure of the first structure at rest."""
    volumes = np.abs(np.linalg.det(cells)) / abs(np.linalg.det(atoms.cell.array))
    # The barostat's time is 1 ps: the first half is left to it.
    settled = volumes[len(volumes) // 2 :]
    blocks = [part.mean() for part in np.array_split(settled, min(5, len(settled)))]
    still = atoms.copy()
    still.calc = QFFCalculator(potential)
    return {
        "volume_ratio": float(settled.mean()),
        "volume_error": float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else None,
        "first_pressure_gpa": float(-still.get_stress()[:3].mean() / GPa),
    }


def warm(start, folder):
    """The structure at the end of a run: an equilibrated one, where the run is there."""
    path = folder / "trajectory.extxyz"
    if not path.exists():
        return start
    return replace(start, positions=read_trajectory(path).positions[-1])


def folder_of(name, potential, kind, seed, ps, *, held=False):
    walls = "-walls" if isinstance(potential, FencedForceField) else ""
    return f"{name}-{kind}-{seed}-{ps:g}ps{walls}{'-held' if held else ''}"


def run_one(name, system, potential, frames, starts, work, *, kind, seed, ps, held):
    start, whole = starts[(7 * seed) % len(starts)], ps / SHARE.get(kind, 1.0)
    if kind in ("nve", "npt"):
        start = warm(start, work / folder_of(name, potential, "nvt", seed, whole, held=held))
    folder = work / folder_of(name, potential, kind, seed, ps, held=held)
    done = simulate(system, potential, start, folder, kind=kind, seed=seed, ps=ps, held=held)
    row, trajectory = done if isinstance(done, tuple) else (done, None)
    if trajectory is not None and kind == "nvt":
        row["heat"] = heat(folder)
        settled = trajectory.after(0.1 * row["time_ps"])
        if LITHIUM in trajectory.numbers and len(settled.positions) >= FEWEST_FRAMES:
            row["lithium"] = lithium(settled)
        if system.has_reference:
            measured, expected = radial_distribution(settled), radial_distribution(reference(frames))
            row["rdf_mae"] = radial_distribution_errors(measured, expected)
            if seed == 0:
                row["rdf"] = distributions(measured, expected)
    row["survived"] = row["failure"] is None and row["fewest_bonds"] == 1.0
    return {"system": name, "kind": kind, "seed": seed, **walls_of(potential), "held": held, **row}


def run_windows(name, system, potential, frames, starts, work, *, ps, number):
    """How far parts of a run as long as the reference are from all of it, pair by pair."""
    whole = work / folder_of(name, potential, "nvt", 0, ps)
    long = radial_distribution(read_trajectory(whole / "trajectory.extxyz").after(0.1 * ps))
    times = np.array([f.tags["time_fs"] for f in frames if f.tags.get("part") == "trajectory"])
    spacing, count = float(np.median(np.diff(times))), len(times)
    settings = MDSettings(
        temperature_k=system.temperature_k,
        steps=round(number * count * spacing / system.timestep_fs),
        timestep_fs=system.timestep_fs,
        ensemble="nvt",
        seed=0,
        interval=round(spacing / system.timestep_fs),
        velocities=False,
    )
    folder = work / folder_of(name, potential, "windows", 0, ps)
    summary = run_dynamics(warm(starts[0], whole).to_atoms(), potential, settings, folder)
    fine = read_trajectory(summary.trajectory)
    errors = [
        radial_distribution_errors(
            radial_distribution(replace(fine, **{key: getattr(fine, key)[k : k + count] for key in PER_FRAME})), long
        )
        for k in range(0, number * count, count)
    ]
    row = {"n_atoms": len(frames[0].numbers), "asked_ps": ps, "failure": None, "window_ps": count * spacing * 1e-3}
    row |= {"survived": True, "n_windows": number}
    row["window_errors"] = {pair: float(np.mean([one[pair] for one in errors])) for pair in errors[0]}
    return {"system": name, "kind": "windows", "seed": 0, **walls_of(potential), **row}


def walls_of(potential):
    """Whether there are walls, and how steep: runs within others are no runs of today's default."""
    fence = isinstance(potential, FencedForceField)
    return {"fence": fence, "wall_strength": STRENGTH if fence else None}


def recorded():
    return json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=Path("stability-runs"))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ps", type=float, default=100.0)
    parser.add_argument("--bare", action="store_true", help="run without walls, as `qff md --no-fence` does")
    parser.add_argument("--held", action="store_true", help="hold bonds, as `qff md --hold-bonds` does (not windows)")
    parser.add_argument("--smoke", action="store_true", help="a few steps of the shipped framework, nothing recorded")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [] if given.smoke else recorded()
    known = {
        (r["system"], r["kind"], r["seed"], r["asked_ps"], r["fence"], r["wall_strength"], r.get("held", False))
        for r in rows
    }
    for name in ["limof5", "li6ps5cl"] if given.smoke else given.systems:
        system, like = SYSTEMS[name], SYSTEMS[name].like or name
        frames = frames_of(like, given.data)
        of = like if system.stress_scale is None else name
        model = model_of(of, system, frames, given.work, options=SMALL if given.smoke else {})
        potential = model if given.bare else within_walls(model)
        walls = walls_of(potential)
        starts = starts_of(system, frames)
        for kind in (k for k in given.kinds if k in system.kinds and not (given.held and k == "windows")):
            ps = SHARE.get(kind, 1.0) * (0.2 if given.smoke else given.ps)
            for seed in range(given.seeds if kind == "nvt" and not given.smoke else 1):
                if (name, kind, seed, ps, *walls.values(), given.held) in known:
                    continue
                if kind != "windows":
                    run = (name, system, potential, frames, starts, given.work)
                    row = run_one(*run, kind=kind, seed=seed, ps=ps, held=given.held)
                elif "time_fs" in frames[-1].tags:
                    number = 2 if given.smoke else WINDOWS
                    row = run_windows(name, system, potential, frames, starts, given.work, ps=ps, number=number)
                else:
                    continue
                print(json.dumps(row), flush=True)
                if not given.smoke:
                    # Read anew, so that several systems can run side by side.
                    lines = ",\n".join(json.dumps(run) for run in [*recorded(), row])
                    RESULTS.write_text(f'{{"runs": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
