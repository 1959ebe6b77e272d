r"""Backends by name: simulators, fake devices with the noise of real ones, and IBM's devices.

=================  ==================================================================================================
``exact``          gate by gate without a primitive; with shots, outcomes drawn from the exact probabilities
``statevector``    Qiskit's ``StatevectorEstimator``; with shots, normal noise of the standard error
``aer``            Aer without noise, sampled shot by shot through the runtime's Estimator
``fake_NAME``      tiles of a fake IBM device, with their noise, through the runtime's Estimator
another name       a device of an IBM Quantum account, through the runtime's Estimator
=================  ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.primitives import StatevectorEstimator
from qiskit.providers import BackendV2

from qiskit_qff.errors import BackendError, ConfigError, parse_section, suggest
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.ibm_account import client_errors, connect
from qiskit_qff.evaluators.jobs import JobStore
from qiskit_qff.evaluators.mitigation import (
    LEARNER,
    NoiseModelMaker,
    device_noise_model,
    estimator_options,
    executions_per_shot,
    find_preset,
    needs_noise_model,
)
from qiskit_qff.evaluators.noise_learning import NoiseLearner
from qiskit_qff.evaluators.primitive import PassManagerFactory, PrimitiveEvaluator, Runner
from qiskit_qff.evaluators.protocol import DEFAULT_REPETITION_DELAY, Evaluator, Tile, TimingModel
from qiskit_qff.evaluators.tiling import CutOutBackend, place

if TYPE_CHECKING:
    from qiskit_aer import AerSimulator

SIMULATORS = ("exact", "statevector", "aer")
"""Backends without noise of their own."""
NOISELESS = SIMULATORS[:2]
"""Backends that run no runtime Estimator, so that there is nothing to mitigate."""


@dataclass(frozen=True)
class Settings:
    """Where and how something is measured."""

    backend: str
    """See the table of this module."""
    shots: int | None
    """Executions per circuit; None for exact values, which only ``exact`` and ``statevector`` give."""
    mitigation: str = "none"
    """Preset of error mitigation."""
    dynamical_decoupling: bool = False
    """Whether idle qubits are decoupled."""
    options: Mapping[str, Any] | None = None
    """Options of the runtime's Estimator that replace those of the preset, for example ``{"resilience": {"zne":
    {"noise_factors": [1, 2, 3], "extrapolator": "linear"}}, "dynamical_decoupling": {"sequence_type": "XX"}}``; its
    section ``noise_learner`` is for ``NoiseLearnerV3``."""

    def __post_init__(self) -> None:
        """A ``dynamical_decoupling`` section in the options overrides the flag."""
        if isinstance(self.options, Mapping) and "dynamical_decoupling" in self.options:
            object.__setattr__(self, "dynamical_decoupling", self.runtime_options().dynamical_decoupling.enable)

    def runtime_options(self, *, local: bool = True) -> Any:
        """``EstimatorOptions`` of ``qiskit_ibm_runtime``; fewer random circuits in local simulations."""
        decoupled = self.dynamical_decoupling
        return estimator_options(self.mitigation, dynamical_decoupling=decoupled, local=local, changes=self.options)

    def check(self) -> None:
        """Refuse what no device is needed to see."""
        find_preset(self.mitigation)
        if self.backend in NOISELESS:
            if self.mitigation != "none" or self.dynamical_decoupling or self.options:
                raise ConfigError(
                    f"Backend '{self.backend}' has no noise to mitigate; use --mitigation none without decoupling and "
                    "options, or a fake device."
                )
            return
        if self.shots is None:
            raise ConfigError(f"Backend '{self.backend}' samples: state the number of shots (--shots).")
        options = self.runtime_options()
        if LEARNER in (self.options or {}):
            from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options

            if not needs_noise_model(options):
                raise ConfigError(f"options: '{LEARNER}' is for --mitigation pea or pec, not {self.mitigation}.")
            own = parse_section(NoiseLearnerV3Options, (self.options or {})[LEARNER], where=f"options: {LEARNER}")
            if own.model_fields_set & {"max_execution_time", "environment"}:
                raise ConfigError(f"options: {LEARNER}: remove max_execution_time and environment, set for each job.")


@dataclass(frozen=True)
class Device:
    """What a name stands for."""

    backend: Any
    """A simulator without noise, a fake device, or one of an account."""
    is_fake: bool = False
    """Whether its tiles are simulated with its noise."""
    service: Any = None
    """The account that it belongs to; None where it is simulated here."""

    @property
    def repetition_delay(self) -> float:
        """Time between two shots in s: what the backend states, or else IBM's documented default."""
        stated = getattr(self.backend, "default_rep_delay", None)
        return DEFAULT_REPETITION_DELAY if stated is None else float(stated)


def find_device(name: str) -> Device:
    """The device of a name: ``aer``, ``fake_NAME``, or that of a device of the user's account."""
    if name == "aer":
        from qiskit_aer import AerSimulator

        # Twirling needs the basis gates of a device.
        return Device(AerSimulator(basis_gates=["rz", "sx", "x", "cz"]))
    if name in _fake_classes():
        return Device(_fake_backend(name), is_fake=True)
    hint = suggest(name, [*SIMULATORS, *sorted(_fake_classes())])
    service = connect(f"Backend '{name}' is no simulator and no fake device ({hint}), and a real one")
    with client_errors("IBM Quantum did not list its backends"):
        available = {backend.name: backend for backend in service.backends()}
    if name not in available:
        raise BackendError(f"Your account has no backend '{name}'. {suggest(name, list(available))}")
    return Device(available[name], service=service)


def is_simulated(name: str) -> bool:
    """Whether a backend needs no account."""
    return name in SIMULATORS or name in _fake_classes()


def build_evaluator(
    settings: Settings,
    sizes: Sequence[int] = (),
    *,
    rng: np.random.Generator,
    mode: Any = None,
    jobs: JobStore | None = None,
    layout: Sequence[Sequence[int]] = (),
    pass_manager: PassManagerFactory | None = None,
    noise_model: NoiseModelMaker | None = None,
) -> Evaluator:
    """Evaluator for registers that are measured side by side.

    Args:
        settings: Where and how.
        sizes: Number of qubits of each register; the first ones get the best qubits.
        rng: Source of randomness of simulated shots.
        mode: ``Session`` or ``Batch`` of a real device.
        jobs: Where jobs and results are kept.
        layout: Physical qubits of each register, chosen by the user; by default those with the smallest errors.
        pass_manager: Makes the pass manager from the device and the qubits of a register, for example with another
            optimisation level; by default Qiskit's preset of level 3.
        noise_model: Makes the noise model for ``pec`` and ``pea``; by default learned by ``NoiseLearnerV3`` on a real
            device, and :func:`~qiskit_qff.evaluators.mitigation.device_noise_model` on a fake one.

    Raises:
        BackendError: If the backend is unknown or cannot be reached.
        ConfigError: If the backend cannot do what is asked.
    """
    settings.check()
    if settings.backend == "exact":
        return ExactEvaluator(rng, shots=settings.shots)
    if settings.backend == "statevector":
        return PrimitiveEvaluator(StatevectorEstimator(seed=rng), shots=settings.shots)
    from qiskit_ibm_runtime.executor_estimator import Estimator

    device = find_device(settings.backend)
    options = settings.runtime_options(local=device.service is None)
    if not needs_noise_model(options):
        noise_model = None
    elif noise_model is None and device.service is None:
        noise_model = device_noise_model
    elif noise_model is None:
        timing = TimingModel(repetition_delay=device.repetition_delay)
        own = (settings.options or {}).get(LEARNER, {})
        noise_model = NoiseLearner(mode or device.backend, device.service, timing=timing, options=own, jobs=jobs)
    tiles = _tiles(device, sizes, jobs, layout)
    if device.is_fake and "sx" not in device.backend.target.operation_names:
        raise BackendError(f"'{settings.backend}' has gates that IBM gave up in 2021; use fake_kingston, for example.")
    decoupled = options.dynamical_decoupling.enable
    if device.service is None and not device.is_fake and (decoupled or noise_model is device_noise_model):
        raise ConfigError(
            f"Backend '{settings.backend}' has no gate {'durations' if decoupled else 'errors for a noise model'}: "
            f"leave out {'decoupling' if decoupled else 'pea and pec'} (also in options), or use fake_kingston."
        )
    whole = Estimator(mode=device.backend if mode is None else mode, options=options)

    def cut_out(tile: Tile) -> Runner:
        small = _cut_out_simulator(device.backend, tile)
        return Estimator(mode=small, options=options.model_copy(deep=True)), small

    return PrimitiveEvaluator(
        whole,
        backend=device.backend,
        shots=settings.shots,
        gaussian_noise=False,
        timing=TimingModel(repetition_delay=device.repetition_delay, mitigation_factor=executions_per_shot(options)),
        tiles=tiles,
        cut_out=cut_out if device.is_fake else None,
        rng=rng if device.service is None else None,
        pass_manager=pass_manager,
        noise_model=noise_model,
        service=device.service,
        jobs=jobs,
    )


def _tiles(device: Device, sizes: Sequence[int], jobs: JobStore | None, layout: Sequence[Sequence[int]]) -> list[Tile]:
    """Where the registers are measured: chosen once for a run, though error rates change from day to day."""
    if not device.is_fake and device.service is None:
        return []

    def chosen() -> list[list[Any]]:
        with client_errors("The device did not describe its qubits"):
            return [list(asdict(tile).values()) for tile in place(device.backend.target, sizes, layout)]

    told: list[Any] = chosen() if jobs is None else jobs.once("tiles", chosen)
    try:
        return [Tile(tuple(q), tuple(bonds), tuple(errors), score, number) for q, bonds, errors, score, number in told]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the journal of jobs is damaged (tiles: {error}); restore it, or begin anew.") from error


@lru_cache(maxsize=256)
def _cut_out_simulator(backend: BackendV2, tile: Tile) -> AerSimulator:
    """A tile with its noise; kept, because making a noise model takes longer than the circuits of a register."""
    from qiskit_aer import AerSimulator

    return AerSimulator.from_backend(CutOutBackend(backend, tile))


@lru_cache(maxsize=1)
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
    return _fake_classes()[name]()
