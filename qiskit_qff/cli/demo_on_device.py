"""The step of ``qff demo`` that measures the forces of a frame on a fake device, beside the exact ones."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff.cli.output import Output
from qiskit_qff.evaluators.backends import evaluators_for
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.report.device_forces import COLOURS, HEADER, DeviceForces, device_section
from qiskit_qff.report.device_run import TITLE
from qiskit_qff.report.force_arrows import force_arrows
from qiskit_qff.report.html import Panel, Section

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.pipeline import TrainedModel

LITHIUM = 3
BACKEND = "fake_torino"
SHOTS = 4096

WAYS = (("plain", "none"), ("readout mitigation", "readout"))
"""Name, and preset of the Estimator's mitigation."""


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
    """Measure one frame's forces with the model on a fake device, and tell how far off they are.

    Args:
        trained: the demo's own training; its frames, split and settings are used.
        output: receives table and progress.
        seed: of training and of the simulated shots.

    Raises:
        QFFError: if the backend or a package that it needs is missing.
    """
    frames, split, field = trained.frames, trained.split, trained.force_field
    number = int(split.test[0])
    with output.progress("measuring forces"):
        measured = measure_forces(field, frames[number], backend=BACKEND, shots=SHOTS, seed=seed)
    text = _explanation(field, number)
    for paragraph in text:
        output.say(paragraph)
    output.table(f"forces on {BACKEND} against the exact ones", HEADER, [entry.row() for entry in measured])
    result = {
        "backend": BACKEND,
        "shots_per_circuit": SHOTS,
        "frame": number,
        "n_registers": len(field.registers),
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
    exact = field.predict(frame).forces
    measured = []
    for name, mitigation in WAYS:
        rng = np.random.default_rng(seed)
        done = predict_measured(
            field,
            [frame],
            evaluator_for=evaluators_for(backend, shots=shots, mitigation=mitigation, rng=rng),
            strategy="operator",
            shots=shots,
        )
        (prediction,) = done.frames
        measured.append(DeviceForces(name, exact, prediction.forces, prediction.force_std, done.cost))
    return tuple(measured)


def _explanation(field: "ForceField", number: int) -> tuple[str, ...]:
    """What is measured, and how to read the figures."""
    text = (
        f"Frame {number} (test), strategy operator: each of the {len(field.registers)} registers of the model above, "
        f"of at most {field.n_qubits} qubits, prepares its vector on qubits of its own of {BACKEND}, side by side with "
        f"the others, and is read in {field.n_qubits + 1} settings with {SHOTS} shots each. Reference: the exact "
        "forces of the same model. Rows with like standard errors differ by chance."
    )
    return (text,)


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
