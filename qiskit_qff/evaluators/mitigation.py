"""Presets of error mitigation: what the runtime's Estimator does against the noise of a device.

``none``      plain counts.
``readout``   readout errors removed by TREX with twirled measurements; cheap, the default of IBM's Estimator.
``zne``       in addition twirled gates and extrapolation to zero noise from noise factors 1, 3 and 5.
``pec``       readout as above, gate noise inverted by sampling (probabilistic error cancellation); its noise model
              is derived from the gate errors that the device states, unless ``build_evaluator`` is given another.

Dynamical decoupling can be added to each, and ``Settings.options`` replaces any option of the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliLindbladMap
from qiskit.transpiler import Target

from qiskit_qff.errors import ConfigError, suggest

if TYPE_CHECKING:
    from qiskit.circuit import CircuitInstruction

NoiseModel = list[tuple["CircuitInstruction", PauliLindbladMap]]
NoiseModelMaker = Callable[[Sequence["CircuitInstruction"], QuantumCircuit, Any], NoiseModel]
"""Makes a noise model from boxed layers, the first circuit that they are in, and the device."""

_PEC_SHOTS = 16
"""Shots per random circuit under PEC; the runtime's 64 leave so few circuits that their spread exceeds shot noise."""
_LOCAL_RANDOMIZATIONS = 8
"""Random circuits per setting in local simulations with twirling."""


NOISE_FACTORS = (1.0, 3.0, 5.0)
"""Amplifications of the noise that are extrapolated to zero, unless options say otherwise."""


@dataclass(frozen=True)
class MitigationPreset:
    """A named set of options."""

    name: str
    """Name for the command line."""
    description: str
    """What it does, in a few words; printed with results."""
    time_factor: float = 1.0
    """Executions per requested shot, for cost estimates; PEC's depends on the noise and is a typical value."""
    measure_mitigation: bool = False
    """TREX for readout errors, with twirled measurements."""
    gate_twirling: bool = False
    """Random Pauli gates around entangling layers."""
    zne: bool = False
    """Extrapolation to zero noise."""
    pec: bool = False
    """Probabilistic error cancellation."""


PRESETS: dict[str, MitigationPreset] = {
    preset.name: preset
    for preset in (
        MitigationPreset("none", "no mitigation"),
        MitigationPreset("readout", "TREX readout mitigation, measurement twirling", measure_mitigation=True),
        MitigationPreset(
            "zne",
            "TREX, gate twirling, zero-noise extrapolation (factors 1, 3, 5)",
            time_factor=3.0,
            measure_mitigation=True,
            gate_twirling=True,
            zne=True,
        ),
        MitigationPreset(
            "pec",
            "TREX, gate twirling, probabilistic error cancellation (noise model: gate errors that the device states)",
            time_factor=4.0,
            measure_mitigation=True,
            gate_twirling=True,
            pec=True,
        ),
    )
}
"""All presets by name."""


def find_preset(name: str) -> MitigationPreset:
    """Preset of a name."""
    if name not in PRESETS:
        raise ConfigError(f"Unknown mitigation '{name}'. {suggest(name, list(PRESETS))}")
    return PRESETS[name]


def estimator_options(
    preset: MitigationPreset,
    *,
    dynamical_decoupling: bool = False,
    local: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Options of ``qiskit_ibm_runtime.executor_estimator.Estimator`` for a preset.

    Args:
        local: Fewer random circuits per setting, which cost little on a device and much in a simulation.
        changes: Options that replace those of the preset, in nested mappings.
    """
    resilience: dict[str, Any] = {
        "measure_mitigation": preset.measure_mitigation,
        "zne_mitigation": preset.zne,
        "pec_mitigation": preset.pec,
        "zne": {"noise_factors": NOISE_FACTORS},
    }
    if preset.pec:
        resilience["layer_noise_model"] = []
    twirling: dict[str, Any] = {"enable_gates": preset.gate_twirling, "enable_measure": preset.measure_mitigation}
    if preset.pec:
        twirling["shots_per_randomization"] = _PEC_SHOTS
    elif local:
        twirling["num_randomizations"] = _LOCAL_RANDOMIZATIONS
    options = {
        "resilience_level": 0,
        "resilience": resilience,
        "twirling": twirling,
        "dynamical_decoupling": {"enable": dynamical_decoupling, "sequence_type": "XY4"},
        # Local simulations round angles to this many decimals of π/2; the default of 5 would limit exact comparisons.
        # An empty layer model: the simulator would otherwise add PEC's model to the noise that it has already.
        "simulator": {"angle_decimals": 12, "layer_noise_model": []},
    }
    return _changed(options, changes or {})


def _changed(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with some replaced, at any depth."""
    return dict(options) | {
        name: _changed(options.get(name, {}), value) if isinstance(value, Mapping) else value
        for name, value in changes.items()
    }


def device_noise_model(layers: Sequence[CircuitInstruction], circuit: QuantumCircuit, backend: Any) -> NoiseModel:
    r"""Noise of entangling layers as the calibration implies it: uniform Pauli noise after every two-qubit gate.

    A gate of average error e depolarises with strength :math:`\lambda = 4e/3`; as a Pauli-Lindblad map all 15 Paulis
    have the rate :math:`-\ln(1 - \lambda)/16`. The boxed layers are those of ``Estimator.find_unique_layers``.
    """
    return [(layer, _layer_noise(layer, circuit, backend.target)) for layer in layers]


def _layer_noise(layer: CircuitInstruction, circuit: QuantumCircuit, target: Target) -> PauliLindbladMap:
    """Noise of the two-qubit gates in one box."""
    body = layer.operation.body
    outer = [circuit.find_bit(qubit).index for qubit in layer.qubits]
    # A box's noise map counts its qubits in the order of the outer circuit, whatever their order in the box.
    rank = {index: sorted(outer).index(physical) for index, physical in enumerate(outer)}
    terms: list[tuple[str, list[int], float]] = []
    for entry in body.data:
        if entry.operation.num_qubits != 2 or entry.operation.name == "barrier":
            continue
        inner = [body.find_bit(qubit).index for qubit in entry.qubits]
        physical = tuple(outer[index] for index in inner)
        error = target[entry.operation.name][physical].error or 0.0
        rate = float(-np.log1p(-min(4.0 * error / 3.0, 0.99)) / 16.0)
        for pauli in product("IXYZ", repeat=2):
            places = [rank[index] for index, letter in zip(inner, pauli, strict=True) if letter != "I"]
            if places:
                terms.append(("".join(pauli).replace("I", ""), places, rate))
    return PauliLindbladMap.from_sparse_list(terms, num_qubits=body.num_qubits)
