"""Structures of Li-MOF-5 to label next: dynamics of a model, kept where it leaves its training data, or thermal.

    python benchmarks/reference/sample.py MODEL --out FILE [--temperatures 300 ...] [--seeds 0 ...] [--springs 0]
    python benchmarks/reference/sample.py MODEL --out FILE --thermal --lithium 0 2 4 6 [--temperatures 300 ...]

From a frame sampled at 300 K (replica A, by seed) the model's own NVT dynamics runs with 0.5 fs; graded every 10 fs. A
structure is kept when the largest grade over its limit first passes 1 and 1.5, and when a Zn-O bond first exceeds
2.6 Å; the run ends at 2.5 times the limit or at twice the temperature, since what comes then is not worth a label. With
springs (eV/Å²) lithium is held to displaced copies of its places. `qff learn` does the same with labels and training in
turn; this is the loop's first half for calculations that run elsewhere.

With `--thermal` dynamics runs within walls (`qiskit_qff.model.fence`), from a snapshot of replica A, B or C by seed,
and gives its last sound structure (no bond of the framework stretched by half), whatever its grade: a sample of that
temperature, as far as the model knows it. Lithium is taken away at random, or inserted into pores.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atom, Atoms, units
from ase.constraints import Hookean
from ase.io import write
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta
from ase.neighborlist import natural_cutoffs, neighbor_list
from pymatgen.core import Lattice

from qiskit_qff import ForceField, QFFCalculator, read_shipped, train
from qiskit_qff.errors import QFFError
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.fence import FencedForceField
from qiskit_qff.structures.species import species_index

LEVELS = (1.0, 1.5)
GIVE_UP = 2.5
LONG_BOND = 2.6
SPREAD = 0.35
"""Displacement of the places that springs hold to, in Å."""
LEAST = {"H": 1.8, "C": 2.0, "O": 1.75, "Zn": 2.6, "Li": 2.7}
"""Least distances from a lithium ion that is inserted, in Å."""
LONGEST_STRETCH = 1.5
"""A bond of the framework that is longer than this times its first length is broken."""
CONTACTS = 4
"""Atoms of C and O within 0.6 Å beyond their least distances, at least, where lithium is inserted."""


def kept(atoms, **told):
    structure = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    structure.info.update(sampler="qff", n_li=int(np.count_nonzero(atoms.numbers == 3)), **told)
    return structure


def sample(field, frame, *, temperature, seed, picoseconds, springs, number):
    """Structures of one run."""
    rng = np.random.default_rng([seed, number])
    atoms = frame.to_atoms()
    lithium = np.flatnonzero(atoms.numbers == 3)
    if springs:
        places = atoms.positions[lithium] + rng.normal(0.0, SPREAD, (len(lithium), 3))
        pairs = zip(lithium, places, strict=True)
        atoms.set_constraint([Hookean(int(a), place, springs, rt=0.0) for a, place in pairs])
    atoms.calc = QFFCalculator(field)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    dynamics = Bussi(atoms, 0.5 * units.fs, temperature_K=temperature, taut=100 * units.fs, rng=rng)
    estimator = field.uncertainty()
    kinds = species_index(atoms.numbers, field.species, where="start")
    bonds = [(i, j) for i in np.flatnonzero(atoms.numbers == 30) for j in np.flatnonzero(atoms.numbers == 8)
             if atoms.get_distance(i, j, mic=True) < 2.4]  # fmt: skip
    found, seen = [], set()
    for block in range(round(100 * picoseconds)):
        try:
            dynamics.run(20)
        except QFFError:
            break
        grades = estimator.grades(kinds, atoms.calc.neighbors)
        ratio = float(grades.values.max() / grades.limit)
        reasons = [f"grade {level:g}" for level in LEVELS if ratio > level and block > 10]
        if max(atoms.get_distance(i, j, mic=True) for i, j in bonds) > LONG_BOND:
            reasons.append("Zn-O bond")
        for reason in reasons:
            if reason not in seen:
                seen.add(reason)
                told = {"temperature_K": temperature, "sampling_seed": seed, "round": number, "reason": reason}
                found.append(kept(atoms, grade=round(ratio, 3), time_ps=0.01 * (block + 1), **told))
        if ratio > GIVE_UP or atoms.get_temperature() > 2.0 * temperature + 100.0:
            break
    return found


def loaded(frame, n_lithium, rng):
    """The frame with as many lithium ions, as ASE atoms: taken away at random, or put into pores at random."""
    atoms = frame.to_atoms()
    present = np.flatnonzero(frame.numbers == 3)
    del atoms[rng.permutation(present)[n_lithium:]]
    if n_lithium <= len(present):
        return atoms
    lattice, symbols = Lattice(atoms.cell.array), np.array(atoms.get_chemical_symbols())
    grid = np.stack(np.meshgrid(*[np.arange(36) / 36] * 3), axis=-1).reshape(-1, 3)
    excess = lattice.get_all_distances(grid, atoms.get_scaled_positions()) - [LEAST[symbol] for symbol in symbols]
    touching = (excess[:, np.isin(symbols, ["C", "O"])] < 0.6).sum(axis=1)
    free = grid[(excess > 0.0).all(axis=1) & (touching >= CONTACTS)]
    for _ in range(n_lithium - len(present)):
        chosen = rng.choice(free)
        atoms.append(Atom("Li", chosen @ atoms.cell.array))
        free = free[lattice.get_all_distances(free, chosen)[:, 0] > LEAST["Li"]]
    return atoms


def thermal(field, frame, *, temperature, n_lithium, seed, picoseconds, every, number):
    """Last sound structure of a run within walls; where the run is lost, the one before that; None if there is none."""
    rng = np.random.default_rng([seed, number, n_lithium, round(temperature)])
    atoms = loaded(frame, n_lithium, rng)
    framework = np.flatnonzero(atoms.numbers != 3)
    bonds = [(i, j) for i, j in zip(*neighbor_list("ij", atoms, natural_cutoffs(atoms)), strict=True)
             if i < j and {i, j} <= set(framework)]  # fmt: skip
    lengths = np.array([atoms.get_distance(i, j, mic=True) for i, j in bonds])
    atoms.calc = QFFCalculator(FencedForceField.of(field))
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    dynamics = Bussi(atoms, 0.5 * units.fs, temperature_K=temperature, taut=50 * units.fs, rng=rng)
    earlier = last = None
    for block in range(1, round(picoseconds / every) + 1):
        try:
            dynamics.run(round(2000 * every))
        except QFFError:
            return earlier
        stretch = max(np.array([atoms.get_distance(i, j, mic=True) for i, j in bonds]) / lengths)
        if atoms.get_temperature() > 1.5 * temperature + 100.0 or stretch > LONGEST_STRETCH:
            return earlier
        told = {"temperature_K": temperature, "sampling_seed": seed, "round": number, "reason": "thermal"}
        earlier, last = last, kept(atoms, time_ps=round(every * block, 3), stretch=round(stretch, 3), **told)
    return last


def small_model():
    options = {"max_parameters": 40, "optimizer": {"restarts": 1}, "descriptor": {"r_cut": 4.5, "l_max": 1}}
    config = parse_config(options | {"data": {"split": "none"}}, where="benchmark")
    return train(read_shipped()[:5], config).force_field


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small model, nothing written")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[300.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--ps", type=float, default=6.0)
    parser.add_argument("--springs", type=float, default=0.0)
    parser.add_argument("--round", type=int, default=3)
    parser.add_argument("--thermal", action="store_true", help="within walls, one structure of each run")
    parser.add_argument("--lithium", type=int, nargs="+", default=[4], help="with --thermal: ions per cell")
    given = parser.parse_args()
    if not given.smoke and (given.model is None or given.out is None):
        parser.error("give a model and --out")
    field = small_model() if given.smoke else ForceField.load(given.model)
    snapshots = [f for f in read_shipped() if not f.tags["rattle"]]
    found = []
    if given.smoke:
        given.seeds, given.ps, given.lithium = [0], 0.05, [2, 6]
    if given.thermal or given.smoke:
        for n_lithium, temperature, seed in product(given.lithium, given.temperatures, given.seeds):
            starts = [f for f in snapshots if f.tags["replica"] == "ABC"[seed % 3]]
            new = thermal(
                field, starts[seed // 3 % len(starts)], temperature=temperature, n_lithium=n_lithium, seed=seed,
                picoseconds=given.ps, every=min(given.ps, 0.1), number=given.round,
            )  # fmt: skip
            ended = "none" if new is None else f"{new.info['time_ps']} ps"
            print(f"{n_lithium} Li, {temperature:g} K, seed {seed}: {ended}", flush=True)
            found += [] if new is None else [new]
        if given.thermal:
            write(given.out, found, format="extxyz")
            return
    starts = [f for f in snapshots if f.tags["replica"] == "A"]
    for temperature in given.temperatures:
        for seed in given.seeds:
            new = sample(
                field, starts[seed % len(starts)], temperature=temperature, seed=seed, picoseconds=given.ps,
                springs=given.springs, number=given.round,
            )  # fmt: skip
            print(f"{temperature:g} K, seed {seed}: {[a.info['reason'] for a in new]}", flush=True)
            found += new
    if not given.smoke:
        write(given.out, found, format="extxyz")


if __name__ == "__main__":
    main()
