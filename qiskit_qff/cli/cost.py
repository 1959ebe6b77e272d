"""``qff cost``: circuits, shots, processor seconds and two-qubit depth on a backend; nothing is run."""

from typing import Annotated

import typer

from qiskit_qff.cli.options import JsonOption, MitigationOption, ModelArgument, RuntimeOptions, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.durable import read_yaml
from qiskit_qff.errors import BackendError


def cost(
    model: ModelArgument,
    *,
    backend: Annotated[str, typer.Option("--backend", help="aer, fake_NAME or ibm_NAME.")],
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: MitigationOption = "none",
    options: RuntimeOptions = None,
    json: JsonOption = False,
) -> None:
    """Say what a calibration and a training gradient would cost on a backend."""
    from qiskit_qff.evaluators.backends import NOISELESS, Settings
    from qiskit_qff.model.calibration import estimate
    from qiskit_qff.model.force_field import ForceField

    output = Output(as_json=json)
    if backend in NOISELESS:
        raise BackendError(f"Backend '{backend}' takes no processor time; choose a device, for example fake_kingston.")
    field = ForceField.load(model_file(model))
    counts, words = estimate(
        field, Settings(backend, shots, mitigation, options=read_yaml(options) if options else None), ask_server=True
    )
    gradient = counts["gradient"]
    output.say(f"calibration, M of every register, once for all frames: {words}")
    output.say(
        f"gradient of a training step: {gradient['circuits']} circuits, {gradient['shots']} shots, about "
        f"{gradient['seconds']:.0f} s"
    )
    output.finish({"backend": backend, "mitigation": mitigation, "shots_per_circuit": shots, **counts})
