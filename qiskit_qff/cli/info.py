"""``qff info``: what a model file holds: its parameter ledger, channels and circuits."""

from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.calibration_summary import print_calibration
from qiskit_qff.cli.options import JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.stresses import fitted_scale
from qiskit_qff.cli.uncertainty_summary import print_training_domain

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField


def info(
    model: ModelArgument,
    *,
    channels: Annotated[bool, typer.Option("--channels", help="List every channel in words.")] = False,
    circuit: Annotated[bool, typer.Option("--circuit", help="Draw the circuit of each element.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the parameter ledger, the channels and the circuits of a model."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.report.circuits import draw
    from qiskit_qff.report.model_sections import channels_in_words, circuit_depths

    output = Output(as_json=json)
    field = ForceField.load(model_file(model))
    depths, words = circuit_depths(field), channels_in_words(field)
    print_ledger(field, output)
    output.table(
        "circuits (two-qubit depth on a heavy-hex device)",
        ("element", "family", "readout", "qubits", "depth of U", "with loader"),
        [
            (entry.symbol, model.ansatz.family, model.ansatz.readout, entry.n_qubits, *depths[entry.symbol])
            for entry, model in zip(field.ledger.species, field.models, strict=True)
        ],
    )
    scale = fitted_scale(field)
    output.say(f"cutoff: {field.cutoff:g} Å")
    output.say("fitted to energies and forces" + ("" if scale is None else f", and to stresses ({scale:g} meV/Å³)"))
    calibration = print_calibration(field, output)
    domain = print_training_domain(field, output)
    if channels:
        for symbol, lines in words.items():
            output.say(f"channels of {symbol}:")
            for line in lines:
                output.say(f"  {line}")
    if circuit:
        for entry, program in zip(field.ledger.species, field.programs.values(), strict=True):
            output.say(f"U of {entry.symbol}:\n{draw(program.circuit)}")
    output.finish(
        {
            "n_trainable": field.n_trainable,
            "ledger": field.ledger.to_dict(),
            "species": [entry.symbol for entry in field.ledger.species],
            "n_qubits": field.n_qubits,
            "two_qubit_depth": max(whole for _, whole in depths.values()),
            "r_cut": field.cutoff,
            "stress_scale_mev_per_ang3": scale,
            "circuits": {
                symbol: {"two_qubit_depth_of_u": own, "two_qubit_depth": whole}
                for symbol, (own, whole) in depths.items()
            },
            "channels": words,
            "calibration": calibration or None,
            "uncertainty": domain,
        }
    )


def print_ledger(field: "ForceField", output: Output) -> None:
    """The parameter ledger as a table, with the number that counts in its title."""
    entries = field.ledger.species
    rows: list[tuple[object, ...]] = [
        (
            entry.symbol,
            entry.n_qubits,
            entry.angles,
            entry.weights,
            "",
            entry.trainable,
            entry.channels,
            int(entry.label_free),
        )
        for entry in entries
    ]
    totals = field.ledger.to_dict()
    free = totals["not_trained"]
    fitted = [totals[key] for key in ("angles", "weights", "reference_energies", "n_trainable")]
    rows.append(("all", field.n_qubits, *fitted, free["selected_channels"], free["label_free_numbers"]))
    output.table(
        f"{field.n_trainable} trainable parameters",
        ("element", "qubits", "angles", "weights", "references", "trainable", "channels", "label-free"),
        rows,
    )
    if tied := totals["tied"]:
        output.say(f"{tied} numbers are not counted: angles and weight of a balanced readout obey one equation each")
    if scales := free["readout_scales_powers_of_two"]:
        weights = ", ".join(f"{m.weights[0]:+g}" for m in field.models)
        output.say(f"{scales} readout weights are powers of two in eV, chosen as channels are, not fitted: {weights}")
