"""``qff calibrate``: measure a model's operators on a backend once; dynamics then runs on what was measured."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import JsonOption, ModelArgument, SeedOption, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField


def calibrate(
    model: ModelArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="Model file to write; it must not exist yet.")],
    backend: Annotated[str, typer.Option("--backend", help="exact, statevector, aer, fake_NAME or ibm_NAME.")],
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: Annotated[str, typer.Option("--mitigation", help="Error mitigation preset.")] = "none",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write a model whose energies and forces come from operators that a backend measured."""
    import numpy as np

    from qiskit_qff.evaluators.backends import build_evaluator
    from qiskit_qff.model.calibrated_operator import Provenance
    from qiskit_qff.model.calibration import calibrate as measure
    from qiskit_qff.model.force_field import ForceField

    output = Output(as_json=json)
    field = ForceField.load(model_file(model))
    _check_out(out)
    rng = np.random.default_rng(seed)
    date = datetime.now(tz=UTC).isoformat(timespec="seconds")
    with output.progress("measuring") as advance:
        calibrated, cost = measure(
            field,
            evaluator_for=lambda size: build_evaluator(
                backend, n_qubits=size, shots=shots, mitigation=mitigation, rng=rng
            ),
            provenance=Provenance(backend, shots, mitigation, date, None if backend.startswith("ibm_") else seed),
            progress=lambda done, total: advance("", done / total),
        )
    calibrated.save(out)
    summary = print_calibration(calibrated, output)
    output.say(f"circuits: {cost.circuits}, shots: {cost.shots}, written: {out}")
    output.finish(
        {"model": out, "n_circuits": cost.circuits, "n_shots": cost.shots, "seed": seed, "calibration": summary}
    )


def print_calibration(field: "ForceField", output: Output) -> dict[str, Any]:
    """What was measured for each element, as a table and for JSON; empty where the model is not calibrated."""
    summary = calibration_summary(field)
    if summary:
        output.table(
            "M measured on a backend, used for energies and forces (eV)",
            ("element", "backend", "shots", "mitigation", "date", "std error of M", "off the exact M"),
            [
                (
                    symbol,
                    *(entry[key] for key in ("backend", "shots", "mitigation", "date")),
                    entry["std_error_ev"],
                    entry["deviation_ev"],
                )
                for symbol, entry in summary.items()
            ],
        )
    return summary


def calibration_summary(field: "ForceField") -> dict[str, Any]:
    """Provenance, rms standard error and rms deviation from the exact M in eV, by chemical symbol."""
    from dataclasses import asdict, replace

    import numpy as np
    from ase.data import chemical_symbols

    summary = {}
    for model in field.models:
        if model.measured is None:
            continue
        size = model.ansatz.n_amplitudes
        exact = replace(model, measured=None).operator_matrix()
        deviation = (model.measured.matrix - exact)[:size, :size]
        errors = model.measured.operator(model.bound_program()).entry_errors()[:size, :size]
        summary[chemical_symbols[model.number]] = {
            **asdict(model.measured.provenance),
            "std_error_ev": float(np.sqrt(np.mean(errors**2))),
            "deviation_ev": float(np.sqrt(np.mean(deviation**2))),
        }
    return summary


def _check_out(out: Path) -> None:
    """Refuse, before anything is paid, a file that cannot be written or would be lost.

    Raises:
        ConfigError: if it exists, or its directory doesn't.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; choose another --out, a calibration is never overwritten.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no directory; make it first, or choose another --out.")
