r"""Backends by name: simulators, fake devices with the noise of real ones, and IBM's devices.

=================  ==================================================================================================
``exact``          gate by gate without a primitive; with shots, outcomes drawn from the exact probabilities
``statevector``    Qiskit's ``StatevectorEstimator``; with shots, normal noise of the standard error
``aer``            Aer without noise, sampled shot by shot through the runtime's Estimator
``fake_NAME``      the best line of qubits of a fake IBM device, with its noise, through the runtime's Estimator
``ibm_NAME``       a device of an IBM Quantum account, through the runtime's Estimator
=================  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from qiskit.primitives import StatevectorEstimator
from qiskit.providers import BackendV2

from qiskit_qff.errors import BackendError, ConfigError, suggest
from qiskit_qff.evaluators.cutout import best_line, cut_out
from qiskit_qff.evaluators.exact import ExactEvaluator, SampledEvaluator
from qiskit_qff.evaluators.ibm_account import client_errors, connect
from qiskit_qff.evaluators.mitigation import MitigationPreset, estimator_options, find_preset
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import ANYWHERE, DEFAULT_REPETITION_DELAY, Evaluator, Place, QubitLine, TimingModel
from qiskit_qff.evaluators.tiling import TiledEvaluator, tile

SIMULATORS = ("exact", "statevector", "aer")
"""Backends without noise of their own."""
NOISELESS = SIMULATORS[:2]
"""Backends that run no runtime Estimator, so that there is nothing to mitigate."""


@dataclass(frozen=True)
class Device:
    """A quantum device, or what stands in for one."""

    name: str
    """Name as given by the user."""
    backend: Any
    """What circuits are transpiled for and run on."""
    line: QubitLine | None
    """Chosen qubits with their error rates; None on noise-free simulators."""
    is_local: bool
    """Whether it is simulated here."""
    repetition_delay: float = DEFAULT_REPETITION_DELAY
    """Time between two shots in s, as the backend states it."""

    def timing(self, preset: MitigationPreset) -> TimingModel:
        """For estimates of processor time."""
        return TimingModel(repetition_delay=self.repetition_delay, mitigation_factor=preset.time_factor)


def build_evaluator(
    name: str,
    *,
    n_qubits: int,
    n_registers: int = 1,
    shots: int | None = None,
    mitigation: str = "none",
    dynamical_decoupling: bool = False,
    mode: Any = None,
    rng: np.random.Generator,
) -> Evaluator:
    """Evaluator for a backend of the given name.

    Args:
        name: See the table of this module.
        n_qubits: Number of qubits of the circuits.
        n_registers: How many registers are measured side by side, each on its own qubits.
        shots: Executions per circuit; None for exact values, which only ``exact`` and ``statevector`` give.
        mitigation: Preset of error mitigation, for backends that run the runtime's Estimator.
        dynamical_decoupling: Whether to decouple idle qubits, for the same backends.
        mode: ``Session`` or ``Batch`` of a real device.
        rng: Source of randomness of simulated shots.

    Raises:
        BackendError: If the backend is unknown or cannot be reached.
        ConfigError: If the backend cannot do what is asked.
    """
    preset = find_preset(mitigation)
    if name in NOISELESS:
        check_noiseless(name, mitigation=mitigation, dynamical_decoupling=dynamical_decoupling)
        return _side_by_side(_simple_evaluator(name, shots, rng), n_registers)
    whole = find_device(name, n_qubits=n_qubits)

    def evaluator_on(line: QubitLine | None) -> PrimitiveEvaluator:
        device = whole if line is None else find_device(name, n_qubits=n_qubits, line=line)
        return device_evaluator(
            device, shots=shots, preset=preset, dynamical_decoupling=dynamical_decoupling, mode=mode, rng=rng
        )

    alone = evaluator_on(None)  # refuses what the device can't do before anything is paid
    if n_registers == 1 or whole.line is None:
        return _side_by_side(alone, n_registers)
    return TiledEvaluator(places_on(whole, n_qubits, n_registers), evaluator_on, is_joint=not whole.is_local)


def _side_by_side(evaluator: Evaluator, n_registers: int) -> Evaluator:
    """One evaluator for several registers, which simulates them one by one and counts joint circuits."""
    if n_registers == 1:
        return evaluator
    return TiledEvaluator([ANYWHERE] * n_registers, lambda _: evaluator)


def evaluators_for(
    name: str,
    *,
    shots: int | None,
    mitigation: str = "none",
    dynamical_decoupling: bool = False,
    rng: np.random.Generator,
) -> Callable[[int, int], Evaluator]:
    """:func:`build_evaluator` with all but its sizes given: a function of the numbers of qubits and of registers."""
    return lambda n_qubits, n_registers: build_evaluator(
        name,
        n_qubits=n_qubits,
        n_registers=n_registers,
        shots=shots,
        mitigation=mitigation,
        dynamical_decoupling=dynamical_decoupling,
        rng=rng,
    )


def places_on(device: Device, n_qubits: int, n_registers: int) -> list[Place]:
    """Places on a fake or real device for registers of one size."""
    backend = _fake_backend(device.name) if device.is_local else device.backend
    with client_errors(f"'{device.name}' did not describe its qubits"):
        return tile(backend.target, n_qubits, n_registers)


def find_device(name: str, *, n_qubits: int, line: QubitLine | None = None) -> Device:
    """Device ``aer``, ``fake_NAME`` or ``ibm_NAME``; simulated ones are cut to a line, by default the best."""
    if name == "aer":
        from qiskit_aer import AerSimulator

        # Twirling needs the basis gates of a device.
        return Device(name, AerSimulator(basis_gates=["rz", "sx", "x", "cz"]), None, is_local=True)
    if name.startswith("fake_"):
        from qiskit_aer import AerSimulator

        whole = _fake_backend(name)
        small = cut_out(whole, n_qubits, line=line)
        noisy = AerSimulator.from_backend(small)
        return Device(name, noisy, small.line, is_local=True, repetition_delay=_repetition_delay(whole))
    if name.startswith("ibm_"):
        backend = _ibm_backend(name)
        with client_errors(f"IBM Quantum did not describe '{name}'"):
            line = best_line(backend.target, n_qubits) if line is None else line
        return Device(name, backend, line, is_local=False, repetition_delay=_repetition_delay(backend))
    known = [*SIMULATORS, *sorted(_fake_classes())]
    raise BackendError(f"Unknown backend '{name}'. {suggest(name, known)}")


def check_noiseless(name: str, *, mitigation: str, dynamical_decoupling: bool) -> None:
    """Refuse to mitigate where there is no noise."""
    if find_preset(mitigation).name != "none" or dynamical_decoupling:
        raise ConfigError(
            f"Backend '{name}' has no noise to mitigate; use --mitigation none without decoupling, or a fake device."
        )


def device_evaluator(
    device: Device,
    *,
    shots: int | None,
    preset: MitigationPreset,
    dynamical_decoupling: bool = False,
    mode: Any = None,
    rng: np.random.Generator,
) -> PrimitiveEvaluator:
    """Evaluator that runs the runtime's Estimator on a device, within a ``Session`` or ``Batch`` if one is given."""
    from qiskit_ibm_runtime.executor_estimator import Estimator

    if shots is None:
        raise ConfigError(f"Backend '{device.name}' samples: state the number of shots (--shots).")
    if dynamical_decoupling and not _has_durations(device):
        raise ConfigError(
            f"Backend '{device.name}' does not say how long its gates take, so idle qubits cannot be decoupled; leave "
            "dynamical decoupling out, or use a device such as fake_torino."
        )
    if preset.pec and not _has_gate_errors(device):
        raise ConfigError(
            f"Backend '{device.name}' states no errors of its gates, so there is no noise for --mitigation pec to "
            "cancel; use --mitigation none, or a device such as fake_torino."
        )
    options = estimator_options(preset, dynamical_decoupling=dynamical_decoupling, local=device.is_local)
    return PrimitiveEvaluator(
        Estimator(mode=device.backend if mode is None else mode, options=options),
        backend=device.backend,
        shots=shots,
        gaussian_noise=False,
        timing=device.timing(preset),
        line=None if device.is_local else device.line,
        rng=rng if device.is_local else None,
        derive_noise=preset.pec,
    )


def _repetition_delay(backend: BackendV2) -> float:
    """Time between two shots in s: what the backend states, or else IBM's documented default."""
    stated = getattr(backend, "default_rep_delay", None)
    return DEFAULT_REPETITION_DELAY if stated is None else float(stated)


def _has_durations(device: Device) -> bool:
    """Whether every gate and measurement on the qubits in use has a duration, which scheduling needs."""
    target = device.backend.target
    used = range(target.num_qubits) if device.is_local or device.line is None else device.line.qubits
    return all(
        entry is not None and entry.duration is not None
        for name in target.operation_names
        if name not in {"delay", "reset"}
        for qubits, entry in (target[name] or {}).items()
        if qubits is not None and set(qubits) <= set(used)
    )


def _has_gate_errors(device: Device) -> bool:
    """Whether the device states errors of its gates, from which the noise of layers is derived."""
    target = device.backend.target
    return any(
        entry is not None and entry.error is not None
        for name in target.operation_names
        if name not in {"delay", "measure", "reset"}
        for entry in (target[name] or {}).values()
    )


def _simple_evaluator(name: str, shots: int | None, rng: np.random.Generator) -> Evaluator:
    """Exact or statevector evaluator, with shot noise if shots are given."""
    if name == "statevector":
        return PrimitiveEvaluator(StatevectorEstimator(seed=rng), shots=shots)
    return ExactEvaluator() if shots is None else SampledEvaluator(rng, shots=shots)


def _fake_classes() -> dict[str, type[BackendV2]]:
    """Fake devices by name."""
    from qiskit_ibm_runtime import fake_provider

    labels = [label for label in dir(fake_provider) if label.startswith("Fake") and "Provider" not in label]
    return {
        f"fake_{label.removeprefix('Fake').removesuffix('V2').removesuffix('Backend').lower()}": getattr(
            fake_provider, label
        )
        for label in labels
    }


@lru_cache(maxsize=8)
def _fake_backend(name: str) -> BackendV2:
    """Fake device of a name; the same object every time, because reading its record takes about a second."""
    classes = _fake_classes()
    if name not in classes:
        raise BackendError(f"Unknown fake backend '{name}'. {suggest(name, list(classes))}")
    return classes[name]()


def _ibm_backend(name: str) -> BackendV2:
    """Device of the user's account."""
    service = connect(f"Backend '{name}'")
    with client_errors("IBM Quantum did not list its backends"):
        available = {backend.name: backend for backend in service.backends()}
    if name not in available:
        raise BackendError(f"Your account has no backend '{name}'. {suggest(name, list(available))}")
    return available[name]
