"""``qff cost``: circuits, shots, processor seconds and two-qubit depth of every strategy; nothing is run."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.options import JsonOption, MitigationOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField


def cost(
    model: ModelArgument,
    *,
    backend: Annotated[str, typer.Option("--backend", help="aer, fake_NAME or ibm_NAME.")],
    atoms: Annotated[
        str,
        typer.Option("--atoms", help="A formula such as Li27P12S44, or a number, shared out evenly."),
    ] = "100",
    frames: Annotated[int, typer.Option("--frames", min=1, help="Training frames of the gradient.")] = 600,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: MitigationOption = "none",
    json: JsonOption = False,
) -> None:
    """Say what energies, forces and a training gradient would cost on a backend."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.quantum_cost import quantum_costs

    output = Output(as_json=json)
    field = ForceField.load(model_file(model))
    counts = _atoms_by_species(atoms, field)
    costs = quantum_costs(field, counts, backend=backend, n_frames=frames, shots=shots, mitigation=mitigation)
    output.table(
        f"{sum(counts.values())} atoms, {frames} training frames, {shots} shots a circuit on {backend}, "
        f"mitigation {mitigation}",
        ("strategy", "quantity", "circuits", "shots", "seconds (estimate)", "two-qubit depth"),
        [(c.strategy, c.quantity, c.circuits, c.shots, c.seconds, c.two_qubit_depth) for c in costs],
    )
    output.say("once: M of every register, for all frames; the gradient is of energies and forces, residuals included")
    output.finish(
        {
            "backend": backend,
            "mitigation": mitigation,
            "shots_per_circuit": shots,
            "n_frames": frames,
            "atoms": {str(number): count for number, count in counts.items()},
            "costs": [asdict(entry) for entry in costs],
        }
    )


def _atoms_by_species(text: str, field: "ForceField") -> dict[int, int]:
    """Atoms of each species from a formula, or from a number that is shared out evenly."""
    from ase.data import atomic_numbers
    from ase.formula import Formula

    if text.isdecimal() and int(text) > 0:
        share, rest = divmod(int(text), len(field.species))
        return {number: share + (k < rest) for k, number in enumerate(field.species)}
    try:
        counted = {atomic_numbers[symbol]: count for symbol, count in Formula(text).count().items()}
    except (ValueError, KeyError):
        counted = {}
    if not counted:
        raise ConfigError(f"--atoms takes a number above 0 or a formula such as Li27P12S44; '{text}' was given.")
    return counted
