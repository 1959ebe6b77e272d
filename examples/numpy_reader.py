"""Energies and forces from a file of `qff export`, with numpy alone: a reference implementation to port from.

    python numpy_reader.py MODEL.json STRUCTURE      (reading the structure takes ASE)

Forces are the exact derivative: a complex step of 1e-30 Å needs no difference, so nothing cancels.
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from numpy.polynomial.legendre import legval

AMPLITUDES, RATES = (0.18175, 0.50986, 0.28022, 0.02817), (3.1998, 0.94229, 0.4029, 0.20162)


def switch(r, inner, outer):
    t = (r - inner) / (outer - inner)
    t = np.where(t.real <= 0, 0, np.where(t.real >= 1, 1, t))
    return 1 - 10 * t**3 + 15 * t**4 - 6 * t**5


def core_energy(pair, height, z1, z2, r):
    q = pair["scale"] * r
    screening = sum(a * np.exp(-b * q * (z1**0.23 + z2**0.23) / 0.4685) for a, b in zip(AMPLITUDES, RATES, strict=True))
    zbl, high = 14.3996454784 * z1 * z2 / q * screening, switch(r, pair["inner"], pair["outer"])
    low = zbl * (switch(r, 0.65 / 0.95 * pair["level"], pair["level"]) - high)
    return zbl * high + (height * np.tanh(low / height) if height else 0)


def atom_energy(model, symbol, vectors, neighbors):
    elements, r = model["elements"], np.sqrt((vectors**2).sum(axis=1))  # no conjugation: analytic in the vectors
    me, z = elements[symbol], [elements[other]["number"] for other in neighbors]
    pairs = [model["pairs"].get(f"{symbol}-{other}") or model["pairs"][f"{other}-{symbol}"] for other in neighbors]
    level = np.array([pair["level"] for pair in pairs])
    t = np.where(r.real > 0.9 * level, (level - r) / (0.1 * level), 1)
    s = np.where(r.real < level, level - 0.1 * level * (t - t**3 + t**4 / 2), r)
    cosines = (vectors / r[:, None]) @ (vectors / r[:, None]).T

    def g(of):
        c, a, rho, k = of["radial"]
        return (neighbors == of["neighbor"]) * np.exp(-a * (s - c) ** 2) * (rho / s) ** k * switch(s, 0, model["r_cut"])

    channels = []
    for ch in me["channels"]:
        if ch["kind"] == "two_body":
            channels.append(g(ch).sum())
        elif ch["kind"] == "three_body":
            channels.append(g(ch["first"]) @ legval(cosines, ch["legendre"]) @ g(ch["second"]))
        else:
            v, w = np.array(channels)[ch["of"]] - ch["offsets"], np.array(ch["widths"])
            channels.append(np.prod(v / np.sqrt(1 + v**2 / w**2)))
    x = np.append(1, np.array(me["map"]) @ (np.array(channels) - me["mean"]))
    core = sum(core_energy(pairs[j], model["core_height"], me["number"], z[j], r[j]) for j in range(len(r)))
    return x @ np.array(me["M"]) @ x + me["reference_energy"] + core / 2


def energy(model, symbols, positions, cell, pbc):
    complete = np.where(np.array(pbc)[:, None], cell, np.eye(3))  # vectors of other directions are not used
    reach = np.where(pbc, np.ceil(model["r_cut"] * np.linalg.norm(np.linalg.inv(complete), axis=0)) + 1, 0).astype(int)
    shifts = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ complete
    total = 0
    for i, symbol in enumerate(symbols):
        vectors = (positions + shifts[:, None, :] - positions[i]).reshape(-1, 3)
        near = np.linalg.norm(vectors.real, axis=1)
        kept = (near < model["r_cut"]) & (near > 1e-8)
        total = total + atom_energy(model, symbol, vectors[kept], np.tile(symbols, len(shifts))[kept])
    return total


def forces(model, symbols, positions, cell, pbc, step=1e-30):
    found = np.zeros(positions.shape)
    for place in np.ndindex(*positions.shape):
        moved = positions.astype(complex)
        moved[place] += 1j * step
        found[place] = -energy(model, symbols, moved, cell, pbc).imag / step
    return found


if __name__ == "__main__":
    from ase.io import read

    model, atoms = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), read(sys.argv[2])
    where = (model, atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array, atoms.pbc)
    print("energy", energy(*where), "eV\n", forces(*where))
