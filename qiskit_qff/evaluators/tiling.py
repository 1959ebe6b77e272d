"""Registers side by side: each on its own chain of qubits, a tile, of one device.

A device has more than a hundred qubits, a register two or three. Tiles are disjoint chains of connected qubits with the
smallest expected errors, the best ones for the first registers, with a spare qubit between neighbours as long as there
is room; registers that do not fit any more are measured in a second circuit, and so on.

On a device the registers of a round are one circuit. A simulation of so many qubits with noise is out of reach, and
tiles do not act on each other in these noise models: here every register is simulated on its own tile, and the cost
counted is that of the joint circuits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from qiskit.transpiler import Target

from qiskit_qff.circuit.ansatz import MeasurementTask
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.cutout import chains
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, Place, QubitLine, Request


def tile(target: Target, n_qubits: int, n_registers: int) -> list[Place]:
    """Places for registers of one size, the best tile of every round first."""
    candidates, neighbors = chains(target, n_qubits)
    chosen: list[QubitLine] = []
    for is_spaced in (True, False):
        taken = {qubit for line in chosen for qubit in line.qubits}
        blocked = taken | ({n for q in taken for n in neighbors[q]} if is_spaced else set())
        for line in candidates:
            if len(chosen) == n_registers:
                break
            if blocked.isdisjoint(line.qubits):
                chosen.append(line)
                blocked.update(line.qubits)
                if is_spaced:
                    blocked.update(n for qubit in line.qubits for n in neighbors[qubit])
    ordered = sorted(chosen, key=lambda line: line.score)
    return [Place(number // len(ordered), ordered[number % len(ordered)]) for number in range(n_registers)]


@dataclass(eq=False)
class TiledEvaluator:
    """Answers requests of many registers, each on its tile; :attr:`Request.register` says whose they are."""

    places: Sequence[Place]
    """Where each register is measured."""
    evaluator_on: Callable[[QubitLine | None], Evaluator]
    """Makes what runs circuits on a tile: of a simulated device a small device of its own."""
    is_joint: bool = False
    """Whether the registers of a round are run as one circuit, as on a device."""
    _evaluators: dict[tuple[int, ...], Evaluator] = field(default_factory=dict, init=False, repr=False)

    def evaluate(self, requests: Sequence[Request], *, shots: int | None = None) -> list[Evaluation]:
        """Expectation values for all requests."""
        if any(request.register >= len(self.places) for request in requests):
            raise BackendError("there are more registers than places; make the evaluator for all of them.")
        placed = [replace(request, place=self.places[request.register]) for request in requests]
        rows = joint_rows(placed)
        if self.is_joint:
            runner = self._on(None)
            assert isinstance(runner, PrimitiveEvaluator)
            parts = runner.evaluate_joint([[placed[index] for index in row] for row in rows], shots=shots)
            found = {
                index: one for row, part in zip(rows, parts, strict=True) for index, one in zip(row, part, strict=True)
            }
            return [found[index] for index in range(len(requests))]
        found = self._by_tile(placed, shots)
        for row in rows:
            longest = max(row, key=lambda index: found[index].cost.circuits)
            found |= {index: replace(found[index], cost=Cost()) for index in row if index != longest}
        return [found[index] for index in range(len(requests))]

    def _by_tile(self, requests: Sequence[Request], shots: int | None) -> dict[int, Evaluation]:
        """Answers by the place of their request, each register simulated on its own tile.

        PERF: registers of one circuit on the same qubits are parameter sets of one request, and so of one PUB.
        """
        members: dict[QubitLine | None, dict[MeasurementTask, list[int]]] = {}
        for index, request in enumerate(requests):
            members.setdefault(request.place.line, {}).setdefault(request.task, []).append(index)
        found: dict[int, Evaluation] = {}
        for line, tasks in members.items():
            merged = [
                Request(task, np.vstack([requests[index].parameters for index in own])) for task, own in tasks.items()
            ]
            wholes = self._on(line).evaluate(merged, shots=shots)
            for own, whole in zip(tasks.values(), wholes, strict=True):
                pieces = whole.split([len(requests[index].parameters) for index in own])
                found |= dict(zip(own, pieces, strict=True))
        return found

    def _on(self, line: QubitLine | None) -> Evaluator:
        """What runs circuits on a tile, or joint circuits."""
        key = () if line is None else line.qubits
        if key not in self._evaluators:
            self._evaluators[key] = self.evaluator_on(line)
        return self._evaluators[key]


def joint_rows(requests: Sequence[Request]) -> list[list[int]]:
    """Indices of the requests that one circuit answers, one list a circuit: the k-th of every register of a round.

    The circuit is run with as many parameter sets as the longest of them has.
    """
    rows: dict[tuple[int, int], list[int]] = {}
    seen: Counter[int] = Counter()
    for index, request in enumerate(requests):
        rows.setdefault((request.place.round, seen[request.register]), []).append(index)
        seen[request.register] += 1
    return list(rows.values())
