"""A force field on a device: large cells step by step, many structures batch by batch.

A step sends positions to the device and takes forces back. Pairs go there when the neighbour list is built anew, and
vectors are formed there in float64 whatever the precision of the model: in a cell of 100 Å, float32 positions alone
would cost more accuracy than everything after them.

NOTE: on a graphics processor contributions to the force on one atom are added in any order, so two runs may differ in
the last bits; the CPU's kernels give the same bits on any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.accelerator.layout import Block, Pairs, make_blocks, power_of_four
from qiskit_qff.model.accelerator.library import check_precision, find_device, load_jax
from qiskit_qff.model.accelerator.species_energy import make_step
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.prediction import Prediction
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import NeighborList, PairList, VerletList
from qiskit_qff.structures.species import species_index

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Atoms of a batch of structures; more would wait for each other longer than it takes to compute them.
BATCH_ATOMS = 2**15


@dataclass(frozen=True)
class DevicePrediction(Prediction):
    """What the force field says of one structure, and what only the device knows of it."""

    shortest: float
    """Shortest distance of two atoms in Å; infinite where there are no pairs."""


@dataclass(frozen=True)
class _Placed:
    """Blocks on the device."""

    blocks: Sequence[Block]
    """As they are on the host."""
    arrays: Sequence[tuple[Any, ...]]
    """Their arrays."""
    kinds: IntArray
    """Species index of every centre."""


@dataclass(frozen=True)
class _Running:
    """What the device is computing."""

    placed: _Placed
    """Of what."""
    energies: Sequence[Any]
    """Of the places of each block."""
    forces: Any
    """Of all atoms."""
    virials: Any
    """Of all structures."""
    shortest: Any
    """Shortest distance of all."""


class DeviceForceField:
    """A trained force field on a graphics processor; gives what :class:`ForceField` gives.

    Example:
        >>> DeviceForceField(ForceField.load("model.json"), "gpu").predict(frame)  # doctest: +SKIP
    """

    def __init__(self, field: ForceField, device: str = "gpu", *, precision: str = "float64") -> None:
        """Prepare the model for a device; functions are compiled at the first structure of each size.

        Args:
            field: The force field.
            device: ``gpu``, or ``cpu-jax`` for the same operations on the processor.
            precision: ``float64``, or ``float32`` with a force error of some µeV/Å.

        Raises:
            BackendError: If there is no graphics processor that JAX can use.
            ConfigError: If a word is unknown.
            MissingDependencyError: If JAX is not installed.
        """
        check_precision(precision)
        self._device = find_device(device)
        self._jax = load_jax()
        self.species, self.cutoff = field.species, field.cutoff
        self._references = field.folded.references
        # PERF: the processor is for tests, where compiling takes longer than running.
        options = {} if device == "gpu" else {"xla_backend_optimization_level": 0}
        self._steps = [
            self._jax.jit(
                make_step(field.folded, s, precision),
                compiler_options=options,
            )
            for s in range(len(field.species))
        ]
        self._kept: tuple[PairList, IntArray, _Placed] | None = None

    @property
    def n_compiled(self) -> int:
        """How many functions were compiled so far: one for each species and shape."""
        return sum(step._cache_size() for step in self._steps)  # noqa: SLF001 (JAX has no other name for it)

    def predict(self, frame: Frame) -> DevicePrediction:
        """Evaluate one structure.

        Args:
            frame: The structure; its labels are not used.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        return next(iter(self.predict_many([frame], threads=1)))

    def predict_many(
        self, frames: Iterable[Frame], *, threads: int | None = None, batch_atoms: int = BATCH_ATOMS
    ) -> Iterator[DevicePrediction]:
        """Evaluate many structures, a batch at a time, while the processor finds the neighbours of the next batch.

        Args:
            frames: The structures; may be a generator, which is read two batches ahead.
            threads: Of the neighbour search; default: the processor cores of this process.
            batch_atoms: Atoms after which a batch is full.

        Yields:
            Predictions in the order of the structures; ``shortest`` is that of the batch.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        waiting: tuple[_Running, list[Frame]] | None = None
        with ThreadPoolExecutor(threads) as executor:
            for batch in _batches(frames, batch_atoms):
                kinds = [species_index(frame.numbers, self.species, where=frame.where) for frame in batch]
                pairs = list(executor.map(self._pairs, batch))
                running = self._launch_batch(batch, kinds, pairs)
                if waiting is not None:
                    yield from self._collect_batch(*waiting)
                waiting = running, batch
        if waiting is not None:
            yield from self._collect_batch(*waiting)

    def evaluate(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        pbc: NDArray[np.bool_],
        neighbors: NeighborList,
    ) -> DevicePrediction:
        """Evaluate a structure whose neighbours are known; :meth:`evaluate_pairs` is for those that move.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``.
            cell: Cell vectors in Å, shape ``(3, 3)``.
            pbc: Periods, shape ``(3,)``.
            neighbors: Full list with at least this cutoff; pairs beyond it have no effect.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        return self._evaluate(self._place_one(numbers, neighbors), positions, cell, pbc)

    def evaluate_pairs(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        pbc: NDArray[np.bool_],
        pairs: PairList,
    ) -> DevicePrediction:
        """Evaluate a moving structure; while ``pairs`` is the same object, only positions go to the device.

        Args:
            numbers: Atomic numbers, shape ``(n,)``.
            positions: Positions in Å, shape ``(n, 3)``.
            cell: Cell vectors in Å, shape ``(3, 3)``.
            pbc: Periods, shape ``(3,)``.
            pairs: Pairs that hold all neighbours within the cutoff.

        Raises:
            DataError: If an atom is of a species the model does not know.
        """
        if self._kept is None or self._kept[0] is not pairs or not np.array_equal(self._kept[1], numbers):
            self._kept = None  # PERF: the device's memory is free before the new blocks come
            self._kept = pairs, np.array(numbers), self._place_one(numbers, pairs)
        return self._evaluate(self._kept[2], positions, cell, pbc)

    def _evaluate(
        self, placed: _Placed, positions: FloatArray, cell: FloatArray, pbc: NDArray[np.bool_]
    ) -> DevicePrediction:
        """One structure, whose pairs are on the device."""
        running = self._launch(placed, positions, np.where(np.asarray(pbc)[:, None], cell, 0.0)[None])
        virial = np.array(running.virials[0])
        return DevicePrediction(
            self._energies(running),
            np.array(running.forces[: len(positions)]),
            0.5 * (virial + virial.T),
            float(running.shortest),
        )

    def _place_one(self, numbers: IntArray, pairs: Pairs) -> _Placed:
        """Send the pairs of one structure to the device."""
        kinds = species_index(numbers, self.species, where="structure")
        return self._place(kinds, np.zeros(len(kinds), dtype=np.int64), pairs)

    def _pairs(self, frame: Frame) -> PairList:
        """All pairs of a structure."""
        return VerletList(self.cutoff, skin=0.0).pairs(frame.positions, frame.cell, frame.pbc)

    def _place(self, kinds: IntArray, frames: IntArray, pairs: Pairs) -> _Placed:
        """Send the pairs of one list to the device."""
        blocks = make_blocks(kinds, frames, pairs)
        names = ("centers", "frames", "neighbors", "shifts", "kinds")
        arrays = [tuple(self._send(getattr(block, name)) for name in names) for block in blocks]
        return _Placed(blocks, arrays, kinds[: len(pairs.first) - 1])

    def _send(self, array: NDArray[Any]) -> Any:
        """An array on the device, of the same type."""
        with self._jax.enable_x64(True):
            return self._jax.device_put(array, self._device)

    def _launch(self, placed: _Placed, positions: FloatArray, cells: FloatArray) -> _Running:
        """Start the computation; does not wait for it."""
        forces = np.zeros((power_of_four(len(positions)), 3))
        points, own_cells = forces.copy(), np.zeros((power_of_four(len(cells)), 3, 3))
        points[: len(positions)], own_cells[: len(cells)] = positions, cells
        sums = tuple(map(self._send, (forces, np.zeros_like(own_cells), np.array(np.inf))))
        inputs = self._send(points), self._send(own_cells)
        energies = []
        # Without "highest", float32 products would be taken in TF32, with ten bits.
        with self._jax.enable_x64(True), self._jax.default_matmul_precision("highest"):
            for block, arrays in zip(placed.blocks, placed.arrays, strict=True):
                own, sums = self._steps[block.species](sums, inputs, arrays)
                energies.append(own)
        return _Running(placed, energies, *sums)

    def _energies(self, running: _Running) -> FloatArray:
        """Energies of the centres, with their references."""
        energies = self._references[running.placed.kinds]
        for block, own in zip(running.placed.blocks, running.energies, strict=True):
            taken = slice(block.n_centers)
            energies[block.centers[taken]] += np.asarray(own)[taken]
        return energies

    def _launch_batch(self, batch: Sequence[Frame], kinds: Sequence[IntArray], lists: Sequence[PairList]) -> _Running:
        """Start several structures as one list."""
        starts = np.cumsum([0, *(len(k) for k in kinds)])
        rows = np.cumsum([0, *(len(p.neighbor) for p in lists)])
        merged = PairList(
            first=np.concatenate([[0], *(p.first[1:] + row for p, row in zip(lists, rows, strict=False))]),
            neighbor=np.concatenate([p.neighbor + start for p, start in zip(lists, starts, strict=False)]),
            shifts=np.concatenate([p.shifts for p in lists]),
        )
        frames = np.repeat(np.arange(len(batch)), np.diff(starts))
        placed = self._place(np.concatenate(kinds), frames, merged)
        cells = np.stack([np.where(np.asarray(f.pbc)[:, None], f.cell, 0.0) for f in batch])
        return self._launch(placed, np.concatenate([f.positions for f in batch]), cells)

    def _collect_batch(self, running: _Running, batch: Sequence[Frame]) -> Iterator[DevicePrediction]:
        """Wait for several structures."""
        starts = np.cumsum([0, *(frame.n_atoms for frame in batch)])
        energies, forces = self._energies(running), np.array(running.forces)
        virials, shortest = np.array(running.virials), float(running.shortest)
        for virial, (begin, end) in zip(virials, pairwise(starts), strict=False):
            yield DevicePrediction(
                energies[begin:end].copy(), forces[begin:end].copy(), 0.5 * (virial + virial.T), shortest
            )


def on_device(field: ForceField, device: str, *, precision: str = "float64") -> ForceField | DeviceForceField:
    """The force field where it shall be evaluated.

    Args:
        field: The force field.
        device: ``cpu`` for the compiled kernels; ``gpu`` or ``cpu-jax``.
        precision: ``float64``, or ``float32`` on devices other than ``cpu``.

    Raises:
        BackendError: If there is no graphics processor that JAX can use.
        ConfigError: If a word is unknown, or float32 is asked of ``cpu``.
        MissingDependencyError: If JAX is not installed.
    """
    check_precision(precision)
    if device != "cpu":
        return DeviceForceField(field, device, precision=precision)
    if precision != "float64":
        raise ConfigError("precision 'float32' is for --device gpu: on the CPU it would be no faster. Leave it out.")
    return field


def _batches(frames: Iterable[Frame], most: int) -> Iterator[list[Frame]]:
    """Structures in groups of about as many atoms."""
    batch: list[Frame] = []
    n_atoms = 0
    for frame in frames:
        if batch and n_atoms + frame.n_atoms > most:
            yield batch
            batch, n_atoms = [], 0
        batch.append(frame)
        n_atoms += frame.n_atoms
    if batch:
        yield batch
