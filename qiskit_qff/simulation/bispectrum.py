r"""Bispectrum descriptors of SNAP, computed by LAMMPS: the field's standard linear potential, as a baseline.

``compute snap`` gives, for the atoms of each type, sums of the bispectrum components :math:`B_{j_1 j_2 j}` and their
negative derivatives with respect to all positions. Components with j up to 2J number
:math:`(J + 1)(J + 3/2)(J + 2)/3` for even 2J.

References:
    A. P. Thompson, L. P. Swiler, C. R. Trott, S. M. Foiles and G. J. Tucker, J. Comput. Phys. 285, 316 (2015),
    doi:10.1016/j.jcp.2014.12.018.
"""

from __future__ import annotations

import numpy as np
from ase.calculators.lammps import Prism

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.descriptors.derivatives import STRAIN_COLUMNS, STRAIN_ROWS
from qiskit_qff.errors import DataError, MissingDependencyError
from qiskit_qff.simulation.lammps import INSTALL, start_lammps
from qiskit_qff.structures.frame import Frame, species_index

TENSOR = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Where LAMMPS's six components stand in a symmetric tensor."""
RFAC0 = 0.99363
"""Fraction of the sphere that distances up to the cutoff are mapped to; the value of published potentials."""


def n_components(twojmax: int) -> int:
    """Number of bispectrum components."""
    return sum(
        j >= j1
        for j1 in range(twojmax + 1)
        for j2 in range(j1 + 1)
        for j in range(j1 - j2, min(twojmax, j1 + j2) + 1, 2)
    )


class BispectrumRows:
    """Design rows of linear SNAP; one LAMMPS, cleared for every frame."""

    def __init__(
        self,
        species: tuple[int, ...],
        *,
        twojmax: int,
        neighbor_weights: tuple[float, ...],
        radii: tuple[float, ...],
    ) -> None:
        """Start LAMMPS.

        Args:
            neighbor_weights: Factor of each species in the neighbour density, shape ``(S,)``.
            radii: A pair's cutoff is the sum of its two species' radii, shape ``(S,)``, in Å.
        """
        self._species, self._r_cut = species, 2.0 * max(radii)
        self._lammps = start_lammps(["-log", "none", "-screen", "none"])
        if not self._lammps.has_style("compute", "snap"):
            raise MissingDependencyError(f"this LAMMPS has no package ML-SNAP (compute snap): {INSTALL}")
        numbers = " ".join(f"{number:.10g}" for number in (*radii, *neighbor_weights))
        self._compute = f"compute rows all snap 1.0 {RFAC0} {twojmax} {numbers}"

    def __call__(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """Component sums, shape ``(C,)``, and, end to end, minus their gradient in 1/Å and their derivative by strain.

        The latter as xx, yy, zz, yz, xz, xy; shape ``(3 n + 6, C)`` together.
        """
        if not frame.pbc.all():
            raise DataError(f"{frame.where}: SNAP rows are made for structures that are periodic in all directions.")
        kinds = species_index(frame.numbers, self._species, where=frame.where)
        prism = Prism(frame.cell)
        self._set_up(prism, frame, kinds)
        table = self._lammps.numpy.extract_compute("rows", 0, 2)
        size = 3 * frame.n_atoms
        turned = table[1 : 1 + size, :-1].reshape(frame.n_atoms, 3, -1)
        # Vectors of LAMMPS's frame, row by row, back into that of the structure.
        back = prism.vector_to_ase(np.eye(3))
        forces = np.einsum("nac,ab->nbc", turned, back).reshape(size, -1)
        # LAMMPS sums positions times forces, which is minus the derivative by strain.
        strained = -np.einsum("abc,ad,be->dec", table[1 + size :, :-1][TENSOR], back, back)
        return table[0, :-1].copy(), np.concatenate([forces, strained[STRAIN_ROWS, STRAIN_COLUMNS]])

    def _set_up(self, prism: Prism, frame: Frame, kinds: IntArray) -> None:
        """Build the frame inside LAMMPS and compute."""
        command = self._lammps.command
        xx, yy, zz, xy, xz, yz = prism.get_lammps_prism()
        for line in (
            "clear",
            "units metal",
            "atom_style atomic",
            "atom_modify map array sort 0 0",
            "boundary p p p",
            "box tilt large",
            f"region box prism 0 {xx:.16g} 0 {yy:.16g} 0 {zz:.16g} {xy:.16g} {xz:.16g} {yz:.16g}",
            f"create_box {len(self._species)} box",
        ):
            command(line)
        positions = prism.vector_to_lammps(frame.positions, wrap=True)
        count = frame.n_atoms
        places = positions.ravel().tolist()
        made = self._lammps.create_atoms(count, list(range(1, count + 1)), (kinds + 1).tolist(), places)
        if made != count:
            raise DataError(f"LAMMPS took {made} of {count} atoms; is the cell degenerate?")
        for line in (
            "mass * 1.0",
            f"pair_style zero {self._r_cut:.10g} nocoeff",
            "pair_coeff * *",
            "neighbor 0.0 bin",
            self._compute,
            "thermo_style custom step c_rows[1][1]",
            "run 0 post no",
        ):
            command(line)
