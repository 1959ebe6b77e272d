"""``qff info``: what a model file holds: its parameter ledger, channels and circuits."""

from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.calibrate import print_calibration
from qiskit_qff.cli.options import JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField


def info(
    model: ModelArgument,
    *,
    channels: Annotated[bool, typer.Option("--channels", help="List every channel in words.")] = False,
    circuit: Annotated[bool, typer.Option("--circuit", help="Draw the circuit of the registers.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the parameter ledger, the channels and the circuits of a model."""
    from qiskit_qff.circuit.ansatz import build_program
    from qiskit_qff.model.calibration import calibration_summary
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.species_model import parameter_count
    from qiskit_qff.report.circuits import channels_in_words, circuit_costs, draw

    output = Output(as_json=json)
    field = ForceField.load(model_file(model))
    costs, words = circuit_costs(field), channels_in_words(field)
    circuits = [
        {
            "family": spec.family,
            "n_qubits": spec.n_qubits,
            "n_registers": count,
            "two_qubit_gates": gates,
            "two_qubit_depth": depth,
        }
        for spec, count, gates, depth in costs
    ]
    print_ledger(field, output)
    output.table(
        "circuits (on a heavy-hex device)",
        ("family", "qubits", "registers", "two-qubit gates", "depth of U"),
        [tuple(circuit.values()) for circuit in circuits],
    )
    scale = field.stress_scale
    output.say(f"cutoff: {field.cutoff:g} Å")
    output.say("fitted to energies and forces" + ("" if scale is None else f", and to stresses ({scale:g} meV/Å³)"))
    calibration = calibration_summary(field)
    print_calibration(calibration, output)
    factor = None
    if (posterior := field.posterior) is not None:
        factor = posterior.factor if posterior.n_held_out else None
        scaled = f"times {factor:.2f}, fitted to {posterior.n_held_out} held-out frames" if factor else "not scaled"
        output.say(f"uncertainty: posterior of the coefficients, {scaled}")
    if channels:
        for symbol, lines in words.items():
            output.say(f"channels of {symbol}:")
            for line in lines:
                output.say(f"  {line}")
    if circuit:
        for spec, *_ in costs:
            output.say(f"U on {spec.n_qubits} qubits:\n{draw(build_program(spec).circuit)}")
    output.finish(
        {
            **parameter_count(field.n_trainable),
            "ledger": field.ledger.to_dict(),
            "species": [entry.symbol for entry in field.ledger.species],
            "n_registers": len(field.registers),
            "n_qubits": field.n_qubits,
            "two_qubit_depth": max(depth for *_, depth in costs),
            "two_qubit_gates": max(gates for _, _, gates, *_ in costs),
            "r_cut": field.cutoff,
            "stress_scale_mev_per_ang3": scale,
            "circuits": circuits,
            "channels": words,
            "calibration": calibration or None,
            "uncertainty": None if posterior is None else {"factor": factor},
        }
    )


def print_ledger(field: "ForceField", output: Output) -> None:
    """The parameter ledger as a table, with the number that counts in its title."""
    from qiskit_qff.model.species_model import parameters_in_words

    rows: list[tuple[object, ...]] = [
        (e.symbol, e.n_registers, e.n_qubits, e.angles, e.weights, "", e.trainable, e.channels, e.label_free)
        for e in field.ledger.species
    ]
    totals = field.ledger.to_dict()
    free = totals["not_trained"]
    fitted = [totals[key] for key in ("angles", "weights", "reference_energies", "n_trainable")]
    counts = free["selected_channels"], free["label_free_numbers"]
    rows.append(("all", len(field.registers), field.n_qubits, *fitted, *counts))
    output.table(
        parameters_in_words(field.n_trainable),
        ("element", "registers", "qubits each", "angles", "weights", "references", "trainable", "channels",
         "label-free"),
        rows,
    )  # fmt: skip
    if tied := totals["tied"]:
        output.say(f"{tied} angles and weights are not counted: a balanced register of d features has d free ones")
