"""One step of molecular dynamics on one core: this package's calculator against LAMMPS `snap` and `pod`.

    python benchmarks/md_step.py [--repeats 15] [--smoke]

lips83, 83 atoms; the model that `qff train` makes of its first 600 frames, peers with the same cutoff. A step is what
a simulation repeats: neighbour list with skin reuse (1 Å for all), forces, and the integration, 300 K, 1 fs. Ours is
measured twice: with velocity Verlet in a few lines of numpy, and inside ASE's `VelocityVerlet`. SNAP has 2J = 6 (30
bispectrum components an element) and small coefficients: the time does not depend on their values, and small ones keep
the atoms where they are. POD has 615 coefficients and is fitted by LAMMPS's `fitpod` to the same frames (every fourth
of them, which takes a minute); its force error and ours are on the last 20 frames. All take turns, each from the same
start, in one process and on one thread; shortest times over the repeats. Times are the processor's, not the clock's.
"""
# ruff: noqa: E402

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

# One thread for everybody; before anything that starts threads is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import models
import numpy as np
from ase import units
from ase.md.verlet import VelocityVerlet
from pod import SKIN, Size, fit_pod, predict, started, symbols_of

from qiskit_qff import TrainConfig, train
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.dynamics import assign_velocities
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.neighbors import VerletList

TWOJMAX, N_BISPECTRUM = 6, 30
POD = Size(8, 6, 4)
"""615 coefficients for three elements."""


def ours(field, atoms, steps):
    """Milliseconds a step: velocity Verlet around the calculator's own parts."""
    timestep = 1.0 * units.fs
    points, velocities = atoms.get_positions(), atoms.get_velocities()
    cell, pbc, numbers = atoms.cell.array, atoms.pbc, atoms.numbers
    push = 0.5 * timestep / atoms.get_masses()[:, None]
    neighbors = VerletList(field.cutoff, SKIN)
    forces = field.evaluate(numbers, neighbors.update(points, cell, pbc)).forces
    begin = time.process_time()
    for _ in range(steps):
        velocities += push * forces
        points += timestep * velocities
        forces = field.evaluate(numbers, neighbors.update(points, cell, pbc)).forces
        velocities += push * forces
    return 1e3 * (time.process_time() - begin) / steps


def in_ase(calculator, atoms, steps):
    """Milliseconds a step inside ASE."""
    moving = atoms.copy()
    moving.calc = calculator
    moving.get_forces()
    dynamics = VelocityVerlet(moving, 1.0 * units.fs)
    begin = time.process_time()
    dynamics.run(steps)
    return 1e3 * (time.process_time() - begin) / steps


def snap_files(folder, species, cutoff):
    """Potential files of SNAP; gives the commands that use them."""
    rng = np.random.default_rng(0)
    rows = [f"{len(species)} {N_BISPECTRUM + 1}"]
    for symbol in symbols_of(species):
        rows += [f"{symbol} 0.5 1.0", *(f"{c:.6e}" for c in 1e-9 * rng.standard_normal(N_BISPECTRUM + 1))]
    (folder / "snap.snapcoeff").write_text("\n".join(rows) + "\n")
    (folder / "snap.snapparam").write_text(f"rcutfac {cutoff}\ntwojmax {TWOJMAX}\n")
    files = f"{folder / 'snap.snapcoeff'} {folder / 'snap.snapparam'}"
    return f"pair_style snap\npair_coeff * * {files} {' '.join(symbols_of(species))}\n"


def in_lammps(folder, atoms, species, potential, steps):
    """Milliseconds a step of LAMMPS."""
    instance = started(folder, atoms, species, potential)
    begin = time.process_time()
    instance.command(f"run {steps} pre no post no")
    elapsed = time.process_time() - begin
    instance.close()
    return 1e3 * elapsed / steps


def force_errors(folder, field, frames, potential):
    """Mean absolute force errors of our model and of a potential in LAMMPS, in meV/Å."""
    own = np.mean([np.abs(field.predict(frame).forces - frame.forces).mean() for frame in frames])
    peer = np.mean([
        np.abs(predict(folder, frame, field.species, potential)[1] - frame.forces).mean() for frame in frames
    ])  # fmt: skip
    return 1e3 * float(own), 1e3 * float(peer)


def measure(field, frames, test, *, repeats, steps):
    """Shortest times of runs that take turns."""
    atoms = frames[0].to_atoms()
    assign_velocities(atoms, 300.0, rng=np.random.default_rng(0))
    times = {"calculator_ms": [], "ase_ms": [], "snap_ms": [], "pod_ms": []}
    load = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snap = snap_files(folder, field.species, field.cutoff)
        pod, n_pod = fit_pod(folder, frames[::4], field.species, field.cutoff, POD)
        own, peer = force_errors(folder, field, test, pod)
        ours(field, atoms, 2)  # compiles
        for _ in range(repeats):
            times["calculator_ms"].append(ours(field, atoms, steps))
            times["snap_ms"].append(in_lammps(folder, atoms, field.species, snap, steps))
            times["pod_ms"].append(in_lammps(folder, atoms, field.species, pod, steps))
            times["ase_ms"].append(in_ase(QFFCalculator(field, skin=SKIN), atoms, steps))
            load.append(os.getloadavg()[0])
    shortest = {key: min(values) for key, values in times.items()}
    return {
        "n_atoms": len(atoms),
        "cutoff_ang": field.cutoff,
        "n_trainable": field.n_trainable,
        "twojmax": TWOJMAX,
        "pod_coefficients": n_pod,
        "force_mae_mev_per_ang": own,
        "pod_force_mae_mev_per_ang": peer,
        "steps": steps,
        "repeats": repeats,
        **shortest,
        "snap_over_calculator": shortest["snap_ms"] / shortest["calculator_ms"],
        "snap_over_ase": shortest["snap_ms"] / shortest["ase_ms"],
        "pod_over_calculator": shortest["pod_ms"] / shortest["calculator_ms"],
        "pod_over_ase": shortest["pod_ms"] / shortest["ase_ms"],
        "all": times,
        "load_average": load,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, shared with other jobs",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="a few steps on the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke:
        frames = read_shipped("li6ps5cl")
        training, test = frames[:10], frames[10:11]
    elif (found := models.frames_of("lips83")) is None:
        return
    else:
        training, test = found[0], found[1]["last 200"][-20:]
    if arguments.smoke:
        field = train(training, TrainConfig(max_parameters=40)).force_field
    else:
        field = models.model_of("lips83")
    size = {"repeats": 1, "steps": 3} if arguments.smoke else {"repeats": arguments.repeats, "steps": arguments.steps}
    result = measure(field, training, test, **size)
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        models.record("md_step", result, ["lips83"])


if __name__ == "__main__":
    main()
