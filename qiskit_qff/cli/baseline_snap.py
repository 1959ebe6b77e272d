"""Linear SNAP beside the other baselines: at a matching number of parameters, and in full.

The full version (2J = 8) is there to say what the budget costs, not as a fair competitor. LAMMPS computes rows once;
the small version uses some of their columns. Pair cutoffs and neighbour weights are no fitted numbers but choices, and
decide more than 2J does: on Li-MOF-5 the loss of 2J = 4 lies between 25 and 256. So they are chosen among some
patterns, by the loss on some training frames, and listed as choices.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from qiskit_qff.simulation.bispectrum import BispectrumRows, component_degrees
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.baselines.baseline import Baseline
from qiskit_qff.training.baselines.linear import linear_baseline, linear_sums
from qiskit_qff.training.baselines.suite import BaselineData

FULL = 8
"""2J of the full version."""
TRIAL_FRAMES = 10
"""Frames that cutoffs and neighbour weights are chosen by."""
RIDGE = 1e-10
"""Tikhonov term; bispectrum components are nearly dependent, and a larger one costs accuracy."""


@dataclass(frozen=True)
class Pattern:
    """Settings of SNAP that are chosen, not fitted."""

    radii: tuple[float, ...]
    """Half the cutoff of a pair of one species, in Å."""
    neighbor_weights: tuple[float, ...]
    """Factor of each species in the neighbour density."""

    def rows(self, data: BaselineData, twojmax: int) -> BispectrumRows:
        """Rows with these settings."""
        return BispectrumRows(data.species, twojmax=twojmax, radii=self.radii, neighbor_weights=self.neighbor_weights)


def snap_baselines(data: BaselineData, progress: Callable[[str, int, int], None]) -> list[Baseline]:
    """Fit both versions.

    Args:
        data: What all baselines share.
        progress: Called as work proceeds.

    Returns:
        ``snap``, unless not even its smallest version fits into the budget, and ``snap_full``.

    Raises:
        MissingDependencyError: If LAMMPS is not installed.
        DataError: If a frame is not periodic in all directions.
    """
    small = largest_degree(len(data.species), data.config.max_parameters - data.n_references)
    pattern = _choose(data, max(small, 2))
    source = pattern.rows(data, FULL)
    sums = linear_sums(data.frames, source, data.species, weights=data.weights, progress=progress, stage="snap")
    degrees = np.tile(component_degrees(FULL), len(data.species))
    baselines = []
    for name, degree in (("snap", small), ("snap_full", FULL)):
        if degree < 1:
            continue
        columns = np.flatnonzero(degrees <= degree)
        words = f"linear SNAP, 2J = {degree}"
        baselines.append(
            linear_baseline(name, words, sums, source, columns=columns, choices=2 * len(data.species), ridge=RIDGE)
        )
    return baselines


def largest_degree(n_species: int, max_coefficients: int) -> int:
    """Largest 2J whose linear model keeps to a limit; 0 where none does.

    Args:
        n_species: Number of species.
        max_coefficients: Most coefficients; reference energies are taken off the budget before.
    """
    fitting = [d for d in range(1, FULL + 1) if n_species * len(component_degrees(d)) <= max_coefficients]
    return max(fitting, default=0)


def patterns(species: tuple[int, ...], r_cut: float) -> list[Pattern]:
    """Settings to choose among: cutoffs equal or growing with covalent radii, none beyond ``r_cut``; three weightings.

    Args:
        species: Atomic numbers.
        r_cut: Cutoff radius in Å.
    """
    size = np.array([covalent_radii[z] for z in species])
    rising = np.linspace(0.4, 1.0, len(species))
    alternating = np.where(np.arange(len(species)) % 2 == 0, 1.0, -1.0)
    weightings = (rising, rising[::-1] * alternating, np.ones(len(species)))
    reaches = [
        0.5 * r_cut * reach * (size / size.max()) ** power
        for reach, power in itertools.product((0.7, 1.0), (0.0, 0.5, 1.0))
    ]
    return [
        Pattern(tuple(radii.tolist()), tuple(weights.tolist()))
        for radii, weights in itertools.product(reaches, weightings)
    ]


def _choose(data: BaselineData, degree: int) -> Pattern:
    """The pattern with the smallest loss on a few frames."""
    keep = np.linspace(0, len(data.frames) - 1, min(TRIAL_FRAMES, len(data.frames))).round().astype(int)
    frames = [data.frames[k] for k in keep]
    candidates = patterns(data.species, data.config.descriptor.r_cut)
    return min(candidates, key=lambda pattern: _trial_loss(data, frames, degree, pattern))


def _trial_loss(data: BaselineData, frames: Sequence[Frame], degree: int, pattern: Pattern) -> float:
    """Loss of a linear model on some frames."""
    source = pattern.rows(data, degree)
    sums = linear_sums(frames, source, data.species, weights=data.weights, progress=lambda *_: None)
    source.close()
    return sums.solve(ridge=RIDGE)[2]
