r"""How hot the training frames are, in the eyes of the model: the configurational temperature of each species.

In a canonical ensemble, whatever the potential (Rugh),

.. math:: k_B T = \frac{\langle |\nabla_a E|^2 \rangle}{\langle \nabla_a^2 E \rangle}

with the gradient by the coordinates of any set of atoms a. So frames tell their temperature without velocities, and
frames that are no thermal sample show it: of strained crystals the stiff bonds are cold. AIMD of LiPS at 520 K, say,
comes out near that, 15 strained frames of UiO-66 as 70 K for H and 560 K for Zr.

The Laplacian is estimated with random signs z, :math:`\langle z^T H z \rangle` atom by atom, from differences of
forces (Hutchinson).

References:
    H. H. Rugh, Phys. Rev. Lett. 78, 772 (1997), doi:10.1103/PhysRevLett.78.772.
    B. D. Butler et al., J. Chem. Phys. 109, 6519 (1998), doi:10.1063/1.477301.
    M. F. Hutchinson, Commun. Stat. Simul. Comput. 19, 433 (1990), doi:10.1080/03610919008812866.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase.units import kB
from numpy.typing import NDArray

from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame

FloatArray = NDArray[np.float64]

FRAMES = 12
"""Frames that are looked at, of all training frames in equal steps."""
PROBES = 6
"""Random signs for each: on LiPS a species' temperature is then known to a few percent."""
STEP = 2e-3
"""Displacement of every coordinate in Å."""


def sampled(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames that temperatures are taken from.

    Args:
        frames: All training frames.
    """
    return tuple(
        frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
    )


def configurational_temperatures(
    field: ForceField, frames: Sequence[Frame], *, rng: np.random.Generator
) -> dict[int, float]:
    """Configurational temperature of every species.

    Args:
        field: The model.
        frames: Some frames.
        rng: Source of the signs.

    Returns:
        Per atomic number, in K; species whose mean Laplacian is not positive are left out.
    """
    squares, laplacians = (dict.fromkeys(field.species, 0.0) for _ in range(2))
    for frame in frames:
        square = (field.predict(frame).forces ** 2).sum(axis=1)
        laplacian = _laplacians(field, frame, rng)
        for number in field.species:
            own = frame.numbers == number
            squares[number] += float(square[own].sum())
            laplacians[number] += float(laplacian[own].sum())
    return {z: squares[z] / laplacians[z] / kB for z in field.species if laplacians[z] > 0.0 and squares[z] > 0.0}


def _laplacians(field: ForceField, frame: Frame, rng: np.random.Generator) -> FloatArray:
    """Estimated Laplacian of the energy by each atom's coordinates, shape ``(n,)``, in eV/Å²."""
    found = np.zeros(frame.n_atoms)
    for _ in range(PROBES):
        signs = rng.choice((-1.0, 1.0), size=(frame.n_atoms, 3))
        ahead, behind = (
            field.predict(replace(frame, positions=frame.positions + step * signs)).forces for step in (STEP, -STEP)
        )
        found += ((behind - ahead) * signs).sum(axis=1) / (2.0 * STEP * PROBES)
    return found
