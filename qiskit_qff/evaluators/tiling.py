r"""Registers side by side: each on its own chain of qubits, a tile, of one device.

A device has more than a hundred qubits, a register two or three. Tiles are disjoint chains of connected qubits with the
smallest expected errors,

.. math:: \sum_{q} \left[-\ln(1 - e_{readout}(q))\right] + u \sum_{bonds} \left[-\ln(1 - e_{2q})\right],

with u = 10 uses of each bond: the best ones for the first registers, with a spare qubit between neighbours as long as
there is room; registers that do not fit any more are measured in a second circuit, and so on. For simulation a tile is
cut out as a small device that carries the gate and readout errors, durations and coherence times of its qubits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from qiskit.providers import BackendV2, Options, QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.protocol import Tile

BOND_USES = 10.0
"""How often a circuit is taken to use each bond of its chain."""
_BROKEN = 0.25
"""Error rate from which a gate or readout counts as broken."""


def place(target: Target, sizes: Sequence[int], layout: Sequence[Sequence[int]] = ()) -> list[Tile]:
    """Tiles for registers of some numbers of qubits, the best of every round first; sizes take rounds of their own.

    A ``layout`` gives the qubits of each register instead, all in one round.
    """
    if layout:
        return _chosen(target, sizes, layout)
    found: dict[int, Tile] = {}
    for size in dict.fromkeys(sizes):
        members = [number for number, own in enumerate(sizes) if own == size]
        chosen = _disjoint(target, size, len(members))
        first = 1 + max((tile.round for tile in found.values()), default=-1)
        for k, number in enumerate(members):
            found[number] = replace(chosen[k % len(chosen)], round=first + k // len(chosen))
    return [found[number] for number in range(len(sizes))]


def _chosen(target: Target, sizes: Sequence[int], layout: Sequence[Sequence[int]]) -> list[Tile]:
    """Tiles of a user's choice, one for each register."""
    chains = [tile for size in set(sizes) for tile in _chains(target, size)[0]]
    known = {tile.qubits: tile for tile in chains} | {tile.qubits[::-1]: _turned(tile) for tile in chains}
    found = [known.get(tuple(qubits)) for qubits in layout]
    tiles = [tile for tile in found if tile is not None]
    used = [qubit for tile in tiles for qubit in tile.qubits]
    if [len(tile.qubits) for tile in tiles] != list(sizes) or len(set(used)) < len(used):
        raise ConfigError(
            f"layout needs {len(sizes)} disjoint chains of connected qubits, of {list(sizes)} qubits; "
            f"{[tuple(qubits) for qubits in layout]} was given."
        )
    return tiles


def _turned(tile: Tile) -> Tile:
    """The same chain from its other end."""
    return replace(
        tile,
        qubits=tile.qubits[::-1],
        two_qubit_errors=tile.two_qubit_errors[::-1],
        readout_errors=tile.readout_errors[::-1],
    )


def _disjoint(target: Target, n_qubits: int, count: int) -> list[Tile]:
    """At most so many chains that share no qubit, the best first."""
    candidates, neighbors = _chains(target, n_qubits)
    chosen: list[Tile] = []
    for is_spaced in (True, False):
        blocked = {qubit for tile in chosen for qubit in tile.qubits}
        blocked |= {n for q in blocked for n in neighbors[q]} if is_spaced else set()
        for tile in candidates:
            if len(chosen) == count:
                break
            if blocked.isdisjoint(tile.qubits):
                chosen.append(tile)
                blocked.update(tile.qubits)
                if is_spaced:
                    blocked.update(n for qubit in tile.qubits for n in neighbors[qubit])
    return sorted(chosen, key=lambda tile: tile.score)


def _chains(target: Target, n_qubits: int) -> tuple[list[Tile], dict[int, list[int]]]:
    """All chains of connected working qubits, the smallest expected error first, and the neighbours of every qubit."""
    bonds = _bond_costs(target)
    readout = {qubit: _cost(error) for qubit, error in _readout_errors(target).items() if error < _BROKEN}
    neighbors: dict[int, list[int]] = {qubit: [] for qubit in range(target.num_qubits)}
    for first, second in bonds:
        neighbors[first].append(second)
    found: list[Tile] = []
    stack: list[tuple[tuple[int, ...], float]] = [((qubit,), readout[qubit]) for qubit in sorted(readout)]
    while stack:
        path, cost = stack.pop()
        if len(path) == n_qubits:
            if path[0] <= path[-1]:  # each chain once, not from both ends
                bond_errors = tuple(float(-np.expm1(-bonds[pair])) for pair in pairwise(path))
                readout_errors = tuple(float(-np.expm1(-readout[qubit])) for qubit in path)
                found.append(Tile(path, bond_errors, readout_errors, cost))
            continue
        stack += [
            ((*path, qubit), cost + readout[qubit] + BOND_USES * bonds[path[-1], qubit])
            for qubit in neighbors[path[-1]]
            if qubit not in path and qubit in readout
        ]
    if not found:
        raise BackendError(
            f"The device has no chain of {n_qubits} connected working qubits (of {target.num_qubits} in all). "
            "Use a model with fewer qubits or another device."
        )
    return sorted(found, key=lambda tile: (tile.score, tile.qubits)), neighbors


class CutOutBackend(BackendV2):
    """A device that consists of a tile of another one, with its errors; to be simulated, not run."""

    max_circuits = None

    def __init__(self, backend: BackendV2, tile: Tile) -> None:
        """Qubits are renumbered along the tile."""
        super().__init__(name=f"{backend.name}_{len(tile.qubits)}q")
        self._target = _sub_target(backend.target, tile.qubits)

    @property
    def target(self) -> Target:
        """Instructions and their errors."""
        return self._target

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> Any:
        """Refuse: a cut-out is a description, simulators are made from it."""
        del run_input, options
        raise BackendError(f"{self.name} describes a device; simulate it with AerSimulator.from_backend.")


def _sub_target(target: Target, qubits: tuple[int, ...]) -> Target:
    """Instructions among the given qubits; control flow is left out."""
    position = {qubit: index for index, qubit in enumerate(qubits)}
    properties = target.qubit_properties
    kept = [properties[qubit] or QubitProperties() for qubit in qubits] if properties else None
    sub = Target(num_qubits=len(qubits), dt=target.dt, qubit_properties=kept, granularity=target.granularity)
    for name in sorted(target.operation_names):
        if target[name] is None or None in target[name]:
            continue
        inside = {
            tuple(position[qubit] for qubit in qargs): entry or InstructionProperties()
            for qargs, entry in target[name].items()
            if all(qubit in position for qubit in qargs)
        }
        if inside:
            sub.add_instruction(target.operation_from_name(name), inside, name=name)
    return sub


def _bond_costs(target: Target) -> dict[tuple[int, int], float]:
    """Smallest cost of a two-qubit gate on each working bond, in both directions."""
    costs: dict[tuple[int, int], float] = {}
    for name in target.operation_names:
        for qargs, entry in (target[name] or {}).items():
            if qargs is None or len(qargs) != 2 or entry is None or entry.error is None or entry.error >= _BROKEN:
                continue
            for bond in (qargs, qargs[::-1]):
                costs[bond] = min(costs.get(bond, np.inf), _cost(entry.error))
    return costs


def _readout_errors(target: Target) -> dict[int, float]:
    """Readout error of each qubit that can be measured; 0 where a device does not say."""
    return {
        qargs[0]: float(entry.error) if entry is not None and entry.error is not None else 0.0
        for qargs, entry in target["measure"].items()
    }


def _cost(error: float) -> float:
    """Minus the logarithm of the success probability, so that costs add."""
    return float(-np.log1p(-error))
