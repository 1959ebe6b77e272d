r"""The best few qubits of a large device, as a small device of its own.

Circuits of these force fields need a handful of qubits; a device has more than a hundred, whose noise no laptop can
simulate. The line of connected qubits with the smallest expected error is chosen from the calibration,

.. math:: \sum_{q} \left[-\ln(1 - e_{readout}(q))\right] + u \sum_{bonds} \left[-\ln(1 - e_{2q})\right],

with u = 10 uses of each bond. The cut-out carries the gate and readout errors, durations and coherence times of these
qubits. The same choice serves a real device, as the layout of its circuits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import RZGate, SXGate, XGate
from qiskit.providers import BackendV2, Options, QubitProperties
from qiskit.transpiler import InstructionProperties, Target

from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.protocol import QubitLine

_OLD_GATES: dict[str, dict[str, Gate]] = {
    "u1": {"rz": RZGate(Parameter("phi"))},
    "u2": {"sx": SXGate(), "x": XGate()},
    "u3": {},
}
"""What devices before 2021 call by other names, for the runtime's Estimator, which knows the new ones alone: u1 is a
change of frame, u2 one pulse of 90 degrees between two of them; u3 is made of the others."""
BOND_USES = 10.0
"""How often a circuit is taken to use each bond of its line."""
_BROKEN = 0.5
"""Error rate from which a gate or readout counts as broken."""


class CutOutBackend(BackendV2):
    """A device that consists of some qubits of another one, with their errors; to be simulated, not run."""

    def __init__(self, name: str, target: Target, line: QubitLine) -> None:
        """Set name, target and origin."""
        super().__init__(name=f"{name}_{len(line.qubits)}q")
        self._target = target
        self.line = line

    @property
    def target(self) -> Target:
        """Instructions and their errors."""
        return self._target

    max_circuits = None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> Any:
        """Refuse: a cut-out is a description, simulators are made from it."""
        del run_input, options
        raise BackendError(f"{self.name} describes a device; simulate it with AerSimulator.from_backend.")


def best_line(target: Target, n_qubits: int) -> QubitLine:
    """The chain of connected qubits with the smallest expected error."""
    return chains(target, n_qubits, only_best=True)[0][0]


def chains(target: Target, n_qubits: int, *, only_best: bool = False) -> tuple[list[QubitLine], dict[int, list[int]]]:
    """All chains of connected working qubits, the smallest expected error first, and the neighbours of every qubit."""
    bonds = _bond_costs(target)
    readout = {qubit: _cost(error) for qubit, error in _readout_errors(target).items() if error < _BROKEN}
    neighbors: dict[int, list[int]] = {qubit: [] for qubit in range(target.num_qubits)}
    for first, second in bonds:
        neighbors[first].append(second)
    found: list[QubitLine] = []
    stack: list[tuple[tuple[int, ...], float]] = [((qubit,), readout[qubit]) for qubit in sorted(readout)]
    while stack:
        path, cost = stack.pop()
        if only_best and found and cost >= found[-1].score:
            continue
        if len(path) == n_qubits:
            if path[0] <= path[-1]:  # each chain once, not from both ends
                found.append(_line(path, bonds, readout, cost))
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
    return sorted(found, key=lambda line: (line.score, line.qubits)), neighbors


def cut_out(backend: BackendV2, n_qubits: int, *, line: QubitLine | None = None) -> CutOutBackend:
    """A line of a device, the best one by default, as a device of its own, qubits renumbered along the line."""
    chosen = best_line(backend.target, n_qubits) if line is None else line
    return CutOutBackend(backend.name, _sub_target(backend.target, chosen.qubits), chosen)


def _sub_target(target: Target, qubits: tuple[int, ...]) -> Target:
    """Instructions among the given qubits; control flow is left out, gates of old devices are brought up to date."""
    position = {qubit: index for index, qubit in enumerate(qubits)}
    properties = target.qubit_properties
    kept = [properties[qubit] or QubitProperties() for qubit in qubits] if properties else None
    sub = Target(num_qubits=len(qubits), dt=target.dt, qubit_properties=kept, granularity=target.granularity)
    for name in sorted(target.operation_names):
        if target[name] is None or None in target[name]:
            continue
        replaced = _OLD_GATES.get(name, {name: target.operation_from_name(name)})
        inside = {
            tuple(position[qubit] for qubit in qargs): entry or InstructionProperties()
            for qargs, entry in target[name].items()
            if all(qubit in position for qubit in qargs)
        }
        for label, operation in replaced.items() if inside else ():
            sub.add_instruction(operation, inside, name=label)
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


def _line(
    qubits: tuple[int, ...], bonds: dict[tuple[int, int], float], readout: dict[int, float], score: float
) -> QubitLine:
    """Describe a chain by its error rates."""
    bond_errors = tuple(float(-np.expm1(-bonds[pair])) for pair in pairwise(qubits))
    return QubitLine(qubits, bond_errors, tuple(float(-np.expm1(-readout[qubit])) for qubit in qubits), score)
