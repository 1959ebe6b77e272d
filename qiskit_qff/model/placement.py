"""Where the registers of a model are measured: which of them side by side in one circuit, and on which qubits.

Calibration, evaluation and the estimates of what they cost all take the placement from here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qiskit_qff.evaluators.backends import Device, device_tiling
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.strategies.operator import largest_first
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import RegisterKey


@dataclass(frozen=True)
class Tile:
    """Where a register is measured."""

    register: RegisterKey
    """Which one."""
    round: int
    """Registers of the same round share a circuit."""
    line: QubitLine | None
    """Its qubits with their errors; None on simulators without noise."""


def place_registers(field: ForceField, device: Device | None = None) -> dict[RegisterKey, Tile]:
    """Tiles of all registers: the ones with the largest readouts get the best qubits.

    Args:
        device: The device; None for simulators without noise, on which all registers of a size fit side by side.
    """
    by_size: dict[int, list[RegisterKey]] = {}
    for key, register in field.registers.items():
        by_size.setdefault(register.n_qubits, []).append(key)
    tiles: dict[RegisterKey, Tile] = {}
    first_round = 0
    for size, keys in by_size.items():
        bounds = [field.registers[key].bound_program() for key in keys]
        ordered = [keys[index] for index in largest_first(range(len(keys)), bounds)]
        if device is None or device.line is None:
            tiles |= {key: Tile(key, first_round, None) for key in ordered}
            first_round += 1
            continue
        tiling = device_tiling(device, size, len(keys))
        for place, key in enumerate(ordered):
            number, line = tiling.place(place)
            tiles[key] = Tile(key, first_round + number, line)
        first_round += len(tiling.rounds)
    return {key: tiles[key] for key in field.registers}


def rounds_of(tiles: Mapping[RegisterKey, Tile]) -> list[list[RegisterKey]]:
    """Registers that share a circuit, one list a round."""
    members: dict[int, list[RegisterKey]] = {}
    for key, tile in tiles.items():
        members.setdefault(tile.round, []).append(key)
    return [members[number] for number in sorted(members)]
