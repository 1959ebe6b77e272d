r"""Kernels of the core repulsion: the universal potential of Ziegler, Biersack and Littmark, switched, over neighbours.

.. math:: e(r) = k \frac{Z_i Z_j}{s r} \varphi(s r / a),\qquad a = 0.46850\,(Z_i^{0.23} + Z_j^{0.23})^{-1}\ \mathrm{Å}

.. math:: \varphi(x) = 0.18175\,e^{-3.19980 x} + 0.50986\,e^{-0.94229 x} + 0.28022\,e^{-0.40290 x}
          + 0.02817\,e^{-0.20162 x}

s is 1, except in models from before :mod:`qiskit_qff.model.core_repulsion` had a low part. That module says where each
part acts, and why.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray

#: e^2 / (4 pi epsilon_0) in eV Å (CODATA 2018).
COULOMB_CONSTANT = 14.3996454784
#: Numerator of the universal screening length, in Å (0.8854 Bohr radii).
SCREENING_LENGTH = 0.46850
#: Exponent of the nuclear charge in the universal screening length.
SCREENING_EXPONENT = 0.23
#: Amplitudes of the universal screening function.
SCREENING_AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
#: Decay rates of the universal screening function.
SCREENING_RATES = (3.19980, 0.94229, 0.40290, 0.20162)

#: Repulsion and levelling begin at this fraction of a distance that atoms are known or expected to reach,
OUTER_FRACTION = 0.95
#: and the repulsion is unswitched below this one: soft, since bonds of ions to oxygen or sulphur are short.
INNER_FRACTION = 0.65


@numba.njit(cache=True)
def _universal(distance: float, charge_i: float, charge_j: float, scale: float) -> tuple[float, float]:
    """Return the unswitched potential (eV) and its derivative with distance (eV/Å)."""
    inverse_length = scale * (charge_i**SCREENING_EXPONENT + charge_j**SCREENING_EXPONENT) / SCREENING_LENGTH
    screening = 0.0
    slope = 0.0
    for amplitude, rate in zip(SCREENING_AMPLITUDES, SCREENING_RATES):  # noqa: B905 (numba)
        term = amplitude * math.exp(-rate * inverse_length * distance)
        screening += term
        slope -= rate * inverse_length * term
    coulomb = COULOMB_CONSTANT * charge_i * charge_j / (scale * distance)
    return coulomb * screening, coulomb * (slope - screening / distance)


@numba.njit(cache=True)
def _switch(distance: float, inner: float, outer: float) -> tuple[float, float]:
    """Return S and its derivative with distance (1/Å)."""
    if distance <= inner:
        return 1.0, 0.0
    if distance >= outer:
        return 0.0, 0.0
    width = outer - inner
    t = (distance - inner) / width
    return 1.0 + t * t * t * (-10.0 + t * (15.0 - 6.0 * t)), -30.0 * t * t * (1.0 - t) * (1.0 - t) / width


@numba.njit(cache=True)
def pair_energy(
    distance: float,
    charge_i: float,
    charge_j: float,
    inner: float,
    outer: float,
    scale: float,
    level: float,
    height: float,
) -> tuple[float, float]:
    """Energy of a pair and its derivative.

    Args:
        distance: Distance in Å.
        charge_i: Nuclear charge of one atom.
        charge_j: Nuclear charge of the other.
        inner: Distance below which the high part is unswitched, in Å.
        outer: Distance above which it is zero, in Å.
        scale: Factor from a distance to the one ZBL is evaluated at, no unit.
        level: Distance above which the low part is zero, in Å, ``outer`` or more.
        height: Most that the low part adds, in eV.

    Returns:
        Energy in eV and its derivative in eV/Å.
    """
    if distance >= level:
        return 0.0, 0.0
    bare, bare_slope = _universal(distance, charge_i, charge_j, scale)
    switch, switch_slope = _switch(distance, inner, outer)
    energy, slope = bare * switch, bare_slope * switch + bare * switch_slope
    if height == 0.0:
        return energy, slope
    wider, wider_slope = _switch(distance, INNER_FRACTION / OUTER_FRACTION * level, level)
    missing = bare * (wider - switch)
    missing_slope = bare_slope * (wider - switch) + bare * (wider_slope - switch_slope)
    ratio = math.tanh(missing / height)
    return energy + height * ratio, slope + (1.0 - ratio * ratio) * missing_slope


@numba.njit(cache=True, nogil=True)
def evaluate_pairs(
    species_index: IntArray,
    first: IntArray,
    neighbor: IntArray,
    vectors: FloatArray,
    distances: FloatArray,
    charges: FloatArray,
    inner: FloatArray,
    outer: FloatArray,
    scale: FloatArray,
    level: FloatArray,
    height: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sum pair energies, forces and virial over a full neighbour list.

    Args:
        species_index: Species of every atom, shape ``(n_all,)``.
        first: Where each centre's neighbours begin, shape ``(n + 1,)``.
        neighbor: Neighbours' indices, shape ``(n_pairs,)``.
        vectors: Vectors to them, shape ``(n_pairs, 3)``, in Å.
        distances: Their lengths, shape ``(n_pairs,)``, in Å.
        charges: Nuclear charge of each species, shape ``(S,)``.
        inner: As of :func:`pair_energy`, shape ``(S, S)``.
        outer: As of :func:`pair_energy`, shape ``(S, S)``.
        scale: As of :func:`pair_energy`, shape ``(S, S)``.
        level: As of :func:`pair_energy`, shape ``(S, S)``.
        height: As of :func:`pair_energy`.

    Returns:
        Energies of the centres, shape ``(n,)`` in eV; forces on them, shape ``(n, 3)`` in eV/Å; dE/dstrain, ``(3, 3)``
        in eV.
    """
    n_atoms = first.size - 1
    energies = np.zeros(n_atoms)
    forces = np.zeros((n_atoms, 3))
    virial = np.zeros((3, 3))
    for i in range(n_atoms):
        a = species_index[i]
        for pair in range(first[i], first[i + 1]):
            b = species_index[neighbor[pair]]
            distance = distances[pair]
            # PERF: nearly every pair leaves here; no pair is in reach at ordinary distances.
            if distance >= level[a, b]:
                continue
            energy, slope = pair_energy(
                distance, charges[a], charges[b], inner[a, b], outer[a, b], scale[a, b], level[a, b], height
            )
            energies[i] += 0.5 * energy
            for k in range(3):
                # The full list holds (i, j) and (j, i): each centre collects its own force, and
                # half of the pair's virial.
                pull = slope * vectors[pair, k] / distance
                forces[i, k] += pull
                for m in range(3):
                    virial[k, m] += 0.5 * pull * vectors[pair, m]
    return energies, forces, virial
