"""The step of ``qff demo`` that measures the forces of a frame on a fake device, beside the exact ones."""

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff.cli.output import Output
from qiskit_qff.evaluators.backends import Device, device_evaluator, find_device
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.protocol import Evaluator
from qiskit_qff.model.config import CircuitConfig, TrainConfig
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.report.device_forces import COLOURS, HEADER, DeviceForces, device_section
from qiskit_qff.report.device_run import TITLE
from qiskit_qff.report.force_arrows import force_arrows
from qiskit_qff.report.html import Panel, Section
from qiskit_qff.training.pipeline import train

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.pipeline import TrainedModel

LITHIUM = 3
BACKEND = "fake_torino"
SHOTS = 4096
N_QUBITS = 3
MAX_PARAMETERS = 44
TRAINED_FOR_SHOTS = 1000
"""Shots that the small model expects: fewer than it gets, so that it prefers little noise to the last meV/Å."""

WAYS = (
    ("plain", "none", False),
    ("known spectrum", "none", True),
    ("known spectrum, readout mitigation", "readout", True),
)
"""Name, preset of the Estimator's mitigation, and whether we use what is known of M's spectrum."""


@dataclass(frozen=True, eq=False)
class OnDevice:
    """What the step found."""

    result: dict[str, Any]
    """What ``--json`` says."""
    section: Section
    """The section of the report."""
    measured: tuple[DeviceForces, ...]
    """The same forces, measured in each of :data:`WAYS`."""
    text: tuple[str, ...]
    """What was done, and how to read the figures."""


def forces_on_device(trained: "TrainedModel", output: Output, *, seed: int) -> OnDevice:
    """Train a model that suits today's devices, measure one frame's forces with it, and tell how far off they are.

    Args:
        trained: the demo's own training; its frames, split and settings are used.
        output: receives table and progress.
        seed: of training and of the simulated shots.

    Raises:
        QFFError: if the backend or a package that it needs is missing.
    """
    frames, split = trained.frames, trained.split
    with output.progress("a small model") as advance:
        field = train(trained.data.training, _small(trained.config), progress=advance).force_field
    number = int(split.test[0])
    with output.progress("measuring forces"):
        measured = measure_forces(field, frames[number], backend=BACKEND, shots=SHOTS, seed=seed)
    text = _explanation(trained, field, number)
    for paragraph in text:
        output.say(paragraph)
    output.table(f"forces on {BACKEND} against the exact ones", HEADER, [entry.row() for entry in measured])
    result = {
        "backend": BACKEND,
        "shots_per_circuit": SHOTS,
        "frame": number,
        "n_qubits": field.n_qubits,
        "n_trainable": field.n_trainable,
        "measurements": [entry.to_dict() for entry in measured],
    }
    section = device_section(measured, title=TITLE, text=text)
    section = replace(section, panels=(*section.panels, _arrows(frames[number], measured)))
    return OnDevice(result, section, measured, text)


def measure_forces(
    field: "ForceField", frame: "Frame", *, backend: str, shots: int, seed: int
) -> tuple[DeviceForces, ...]:
    """Forces of one frame in each of :data:`WAYS`.

    Args:
        field: the model.
        frame: a structure; labels are not used.
        backend: a device, or what stands in for one.
        shots: executions per state.
        seed: of the simulated shots.

    Raises:
        BackendError: if the backend is unknown.
    """

    @cache
    def device(n_qubits: int) -> Device:
        return find_device(backend, n_qubits=n_qubits)

    exact = field.predict(frame).forces
    measured = []
    for name, mitigation, known_spectrum in WAYS:
        rng = np.random.default_rng(seed)

        def evaluator(n_qubits: int, mitigation: str = mitigation, rng: np.random.Generator = rng) -> Evaluator:
            return device_evaluator(device(n_qubits), shots=shots, preset=find_preset(mitigation), rng=rng)

        done = predict_measured(
            field,
            [frame],
            evaluator_for=evaluator,
            strategy="operator",
            shots=shots,
            project_spectrum=known_spectrum,
        )
        (prediction,) = done.frames
        measured.append(DeviceForces(name, exact, prediction.forces, prediction.force_std, done.cost))
    return tuple(measured)


def _explanation(trained: "TrainedModel", field: "ForceField", number: int) -> tuple[str, ...]:
    """What is measured, why with another model, and how to read the figures."""
    error = _test_error(field, [trained.frames[index] for index in trained.split.test])
    model = (
        f"The model above has circuits of up to {trained.result.force_field.n_qubits} qubits, too deep for a few "
        f"thousand shots. Measured here is a smaller one: {field.n_qubits} qubits, {field.n_trainable} parameters, "
        f"trained on the same frames for {TRAINED_FOR_SHOTS} shots a state; its forces on the test frames are "
        f"{error:.0f} meV/Å off the ab initio ones."
    )
    measurement = (
        f"Frame {number} (test), strategy operator, {SHOTS} shots a state on the best {field.n_qubits} qubits of "
        f"{BACKEND}; reference: the exact forces of the same model. 'Known spectrum' uses that M has one eigenvalue "
        "that is not zero, and that it is known, which needs fewer circuits too. Rows with like standard errors differ "
        "by chance."
    )
    return model, measurement


def _arrows(frame: "Frame", measured: tuple[DeviceForces, ...]) -> Panel:
    """Forces around the first lithium, by the plainest and the most refined measurement."""
    chosen = {entry.name: entry.forces for entry in (measured[0], measured[-1])}
    colours = (COLOURS[0], COLOURS[len(measured) - 1])
    centre = int(np.flatnonzero(frame.numbers == LITHIUM)[0])
    return Panel(
        "device_arrows",
        "Forces on the atoms around a lithium, exact and measured, and what is wrong with the measured ones.",
        "Two drawings of a piece of the framework with an arrow on every atom; measured arrows cover the exact ones, "
        "deviations become visible when drawn ten times longer.",
        force_arrows(frame, measured[0].exact, chosen, centre=centre, colours=colours),
    )


def _small(config: TrainConfig) -> TrainConfig:
    """The demo's settings with smaller registers, fewer parameters and more regard for shot noise."""
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"split": "none"}),
            "circuit": CircuitConfig(n_qubits=N_QUBITS),
            "max_parameters": MAX_PARAMETERS,
            "loss": config.loss.model_copy(update={"shots": TRAINED_FOR_SHOTS}),
            "optimizer": config.optimizer.model_copy(update={"restarts": 1}),
        }
    )


def _test_error(field: "ForceField", frames: "list[Frame]") -> float:
    """Mean absolute force error against the labels in meV/Å."""
    errors = [np.abs(field.predict(frame).forces - frame.forces) for frame in frames if frame.forces is not None]
    return float(1000.0 * np.mean(np.concatenate(errors)))
