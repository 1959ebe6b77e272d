"""Where the registers of a model are measured: which of them side by side in one circuit, and on which qubits.

Calibration, evaluation and the estimates of what they cost all take the placement from here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Mapping

from qiskit_qff.evaluators.backends import Device, places_on
from qiskit_qff.evaluators.protocol import ANYWHERE, Place
from qiskit_qff.evaluators.strategies.operator import largest_first
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.species_model import RegisterKey


def place_registers(field: ForceField, device: Device | None = None) -> dict[RegisterKey, Place]:
    """Places of all registers: the ones with the largest readouts get the best qubits.

    Args:
        device: The device; None for simulators without noise, on which all registers of a size fit side by side.
    """
    by_size: dict[int, list[RegisterKey]] = {}
    for key, register in field.registers.items():
        by_size.setdefault(register.n_qubits, []).append(key)
    places: dict[RegisterKey, Place] = {}
    for size, keys in by_size.items():
        bounds = [field.registers[key].bound_program() for key in keys]
        ordered = [keys[index] for index in largest_first(range(len(keys)), bounds)]
        chosen = [ANYWHERE] * len(keys) if device is None or device.line is None else places_on(device, size, len(keys))
        first = 1 + max((place.round for place in places.values()), default=-1)
        places |= {key: Place(first + place.round, place.line) for key, place in zip(ordered, chosen, strict=True)}
    return {key: places[key] for key in field.registers}


def rounds_of(places: Mapping[RegisterKey, Place]) -> list[list[RegisterKey]]:
    """Registers that share a circuit, one list a round."""
    members: dict[int, list[RegisterKey]] = {}
    for key, place in places.items():
        members.setdefault(place.round, []).append(key)
    return [members[number] for number in sorted(members)]
