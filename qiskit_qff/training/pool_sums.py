"""From frames to sums over the pool that channels are chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.compressor import PoolStatistics
from qiskit_qff.compression.product_pool import SELECTED, product_pool
from qiskit_qff.model.config import ResolvedConfig
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.budget import fit_pool
from qiskit_qff.training.design import LossWeights, Progress
from qiskit_qff.training.statistics import channel_statistics, pool_statistics
from qiskit_qff.training.workers import Workers

LABELS_PER_CHANNEL = 10
"""Products are formed of fewer channels where there are fewer labels than this for each: the rest would be noise."""


def sum_pool(
    frames: Sequence[Frame],
    species: tuple[int, ...],
    shortest: FloatArray,
    config: ResolvedConfig,
    weights: LossWeights,
    progress: Progress,
    workers: Workers | None = None,
) -> PoolStatistics:
    """Pool statistics over at most ``selection_frames`` evenly chosen frames, and the energies of all others.

    Products of the best channels join the pool in as many rounds as the configuration says; principal components, which
    see no label, are those of the simple channels.

    Args:
        frames: Training frames.
        species: Atomic numbers, ascending.
        shortest: Shortest distance of every pair, shape ``(S, S)``, in Å.
        config: The configuration.
        weights: The loss.
        progress: Called as work proceeds.
        workers: Processes to sum on; this one by default.
    """
    settings = fit_pool(config.descriptor, species)
    count = min(len(frames), config.compression.selection_frames)
    places = {int(k) for k in np.linspace(0, len(frames) - 1, count).round()}
    known = set(species_of([frames[k] for k in places]))
    # A species that only some frames contain must be in the pool's sums too.
    places |= {k for k, frame in enumerate(frames) if not set(frame.numbers.tolist()) <= known}
    chosen, others = ([f for k, f in enumerate(frames) if (k in places) == side] for side in (True, False))
    pool = pool_statistics(
        chosen, species, shortest, settings=settings, weights=weights, progress=progress, others=others, workers=workers
    )
    labels = sum(3 * frame.n_atoms + 1 for frame in chosen)
    selected = min(SELECTED, labels // LABELS_PER_CHANNEL)
    for k in range(config.descriptor.products if config.compression.method == "forward_selection" else 0):
        sets, start = product_pool(pool, most=config.descriptor.max_products, selected=selected)
        # PERF: the sums of the last pool fill hundreds of MiB.
        del pool
        pool = channel_statistics(
            chosen, species, sets, r_cut=settings.r_cut, weights=weights, progress=progress, others=others,
            workers=workers, stage=f"products {k + 1}",
        )  # fmt: skip
        pool = replace(pool, start=start)
    return pool
