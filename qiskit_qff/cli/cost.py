"""``qff cost``: circuits, shots, processor seconds and two-qubit depth on a backend; nothing is run."""

from dataclasses import asdict
from typing import Annotated

import typer

from qiskit_qff.cli.options import JsonOption, MitigationOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output


def cost(
    model: ModelArgument,
    *,
    backend: Annotated[str, typer.Option("--backend", help="aer, fake_NAME or ibm_NAME.")],
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: MitigationOption = "none",
    json: JsonOption = False,
) -> None:
    """Say what a calibration and a training gradient would cost on a backend."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.quantum_cost import quantum_costs

    output = Output(as_json=json)
    costs = quantum_costs(ForceField.load(model_file(model)), backend=backend, shots=shots, mitigation=mitigation)
    output.table(
        f"{shots} shots a circuit on {backend}, mitigation {mitigation}",
        ("quantity", "circuits", "shots", "seconds (estimate)", "two-qubit depth"),
        [tuple(asdict(entry).values()) for entry in costs],
    )
    output.say("calibration: M of every register, once for all frames; the gradient is of energies and forces")
    told = {"backend": backend, "mitigation": mitigation, "shots_per_circuit": shots}
    output.finish(told | {"costs": [asdict(entry) for entry in costs]})
