"""Presets of error mitigation: what the runtime's Estimator does against the noise of a device.

``none``      plain counts.
``readout``   readout errors removed by TREX with twirled measurements; cheap, the default of IBM's Estimator.
``zne``       in addition twirled gates and extrapolation to zero noise from noise factors 1, 3 and 5.
``pea``       the same, but noise is amplified by random gates drawn from a noise model instead of repeated gates.
``pec``       readout as above, gate noise inverted by sampling from a noise model (probabilistic error cancellation).

Noise models are learned on devices (:mod:`~qiskit_qff.evaluators.noise_learning`) and follow from stated gate errors on
fake ones. Options of the runtime's Estimator, except ``OURS``, can be changed by ``Settings.options``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import PauliLindbladMap
from qiskit.transpiler import Target

from qiskit_qff.errors import ConfigError, parse_section, suggest
from qiskit_qff.evaluators.ibm_account import redact

if TYPE_CHECKING:
    from qiskit.circuit import CircuitInstruction
    from qiskit_ibm_runtime.options_models import EstimatorOptions

NoiseModel = list[tuple["CircuitInstruction", PauliLindbladMap]]
NoiseModelMaker = Callable[[Sequence["CircuitInstruction"], QuantumCircuit, Any], NoiseModel]
"""Makes a noise model from boxed layers, the first circuit that they are in, and the device."""

LEARNER = "noise_learner"
"""Section of the options that goes to ``NoiseLearnerV3``."""
NOISE_FACTORS = (1.0, 3.0, 5.0)
"""Amplifications of the noise that are extrapolated to zero, unless options say otherwise."""
OURS = {
    "resilience_level": "use --mitigation", "default_shots": "use --shots", "default_precision": "use --shots",
    "max_execution_time": "every job gets one from its estimate", "environment": "jobs have tags of their own",
}  # fmt: skip
"""Options that would be overwritten or make costs and limits wrong, and what to do instead."""
_LOCAL_RANDOMIZATIONS = 8
"""Random circuits per setting in local simulations with twirling."""

_TREX: dict[str, Any] = {"measure_mitigation": True}
_ZNE, _PEA = {"zne_mitigation": True}, {"zne_mitigation": True, "zne": {"amplifier": "pea"}}
_GATES: dict[str, Any] = {"enable_gates": True}
# The runtime's 64 shots leave so few random circuits that their spread exceeds shot noise.
_MANY = _GATES | {"num_randomizations": "auto", "shots_per_randomization": 16}
_BASE = "TREX, gate twirling,"

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("no mitigation", {}),
    "readout": ("TREX readout mitigation, measurement twirling", {"resilience": _TREX}),
    "zne": (f"{_BASE} zero-noise extrapolation", {"resilience": _TREX | _ZNE, "twirling": _GATES}),
    "pea": (f"{_BASE} zero-noise extrapolation by PEA", {"resilience": _TREX | _PEA, "twirling": _GATES}),
    "pec": (
        f"{_BASE} probabilistic error cancellation",
        {"resilience": _TREX | {"pec_mitigation": True}, "twirling": _MANY},
    ),
}
"""What a preset does, in a few words, and its options of the runtime's Estimator."""


def find_preset(name: str) -> tuple[str, dict[str, Any]]:
    """Preset of a name."""
    if name not in PRESETS:
        raise ConfigError(f"Unknown mitigation '{name}'. {suggest(name, list(PRESETS))}")
    return PRESETS[name]


def estimator_options(
    preset: str, *, dynamical_decoupling: bool = False, local: bool = False, changes: Mapping[str, Any] | None = None
) -> EstimatorOptions:
    """Options of ``qiskit_ibm_runtime.executor_estimator.Estimator`` for a preset.

    Args:
        local: Fewer random circuits per setting, which cost little on a device and much in a simulation.
        changes: Options that replace those of the preset, in nested mappings.

    Raises:
        ConfigError: If the runtime has no such option, or not of this value.
    """
    from qiskit_ibm_runtime.executor_estimator.utils import validate_noise_factors
    from qiskit_ibm_runtime.options_models import EstimatorOptions

    options: dict[str, Any] = {
        "resilience_level": 0,
        "resilience": {"zne": {"noise_factors": NOISE_FACTORS}},
        "twirling": {"num_randomizations": _LOCAL_RANDOMIZATIONS if local else "auto"},
        "dynamical_decoupling": {"enable": dynamical_decoupling, "sequence_type": "XY4"},
        # Local simulations round angles to this many decimals of π/2; the default of 5 would limit exact comparisons.
        # An empty layer model: the simulator would otherwise add the noise of the model to what it has already.
        "simulator": {"angle_decimals": 12, "layer_noise_model": []},
    }
    where = "options of the Estimator"
    if not isinstance(changes or {}, Mapping):
        raise ConfigError(f"{where} should be a mapping of sections; {changes!r} was given.")
    try:  # they are written into journals and models
        safe = redact(text := json.dumps(changes, allow_nan=False)) == text
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} should be plain, finite data: {error}.") from error
    if not safe:
        raise ConfigError(f"{where} contain a token, which would be written into models; remove it.")
    own = {name: value for name, value in (changes or {}).items() if name != LEARNER}
    if refused := [f"{name} ({OURS[name]})" for name in own if name in OURS]:
        raise ConfigError(f"{where}: remove {', '.join(refused)}.")
    wanted = _changed(options, find_preset(preset)[1])
    twirling = own["twirling"] if isinstance(own.get("twirling"), Mapping) else {}
    if given := {"num_randomizations", "shots_per_randomization"} & set(twirling):
        if len(given) > 1:
            raise ConfigError(f"{where}: give one of twirling's {' and '.join(sorted(given))}; the other follows.")
        wanted["twirling"] |= {"num_randomizations": "auto", "shots_per_randomization": "auto"}
    found = parse_section(EstimatorOptions, _changed(wanted, own), where=where)
    if found.resilience.pec_mitigation and found.resilience.zne_mitigation:
        raise ConfigError(f"{where}: noise is either cancelled (pec_mitigation) or extrapolated (zne_mitigation).")
    try:
        if found.resilience.zne_mitigation:
            validate_noise_factors(noise_factors(found), found.resilience.zne.extrapolator)
    except ValueError as error:
        raise ConfigError(f"{where}: resilience.zne: {error}") from error
    return found


def needs_noise_model(options: EstimatorOptions) -> bool:
    """Whether noise is cancelled or amplified by a model of it."""
    found = options.resilience
    return found.pec_mitigation or (bool(found.zne_mitigation) and found.zne.amplifier == "pea")


def noise_factors(options: EstimatorOptions) -> Sequence[float]:
    """Amplifications of the noise that are measured."""
    if options.resilience.pec_mitigation or not options.resilience.zne_mitigation:
        return (1.0,)
    factors = options.resilience.zne.noise_factors
    return NOISE_FACTORS if factors == "auto" else factors


def executions_per_shot(options: EstimatorOptions) -> float:
    """Executions per shot, for estimates; with PEC they depend on the noise, and 4 is typical."""
    return 4.0 if options.resilience.pec_mitigation else float(len(noise_factors(options)))


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


def gates_of_layer(
    layer: CircuitInstruction, circuit: QuantumCircuit
) -> Iterator[tuple[str, list[int], tuple[int, ...]]]:
    """Two-qubit gates of a box: their name, their places among its qubits in order, and their qubits in the circuit."""
    body, outer = layer.operation.body, [circuit.find_bit(qubit).index for qubit in layer.qubits]
    for entry in body.data:
        if entry.operation.num_qubits == 2 and entry.operation.name != "barrier":
            physical = tuple(outer[body.find_bit(qubit).index] for qubit in entry.qubits)
            # A box's noise map counts its qubits in the order of the outer circuit, whatever their order in the box.
            yield entry.operation.name, [sorted(outer).index(index) for index in physical], physical


def _layer_noise(layer: CircuitInstruction, circuit: QuantumCircuit, target: Target) -> PauliLindbladMap:
    """Noise of the two-qubit gates in one box."""
    terms: list[tuple[str, list[int], float]] = []
    for name, ranks, physical in gates_of_layer(layer, circuit):
        error = target[name][physical].error or 0.0
        rate = float(-np.log1p(-min(4.0 * error / 3.0, 0.99)) / 16.0)
        for pauli in product("IXYZ", repeat=2):
            places = [rank for rank, letter in zip(ranks, pauli, strict=True) if letter != "I"]
            if places:
                terms.append(("".join(pauli).replace("I", ""), places, rate))
    return PauliLindbladMap.from_sparse_list(terms, num_qubits=layer.operation.body.num_qubits)
