"""``qff calibrate``: measure a model's operators on a backend once; dynamics then runs on what was measured."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import (
    DecouplingOption,
    DryRunOption,
    JsonOption,
    MitigationOption,
    ModelArgument,
    RuntimeOptions,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output
from qiskit_qff.durable import read_yaml
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.backends import Settings
    from qiskit_qff.evaluators.protocol import Cost
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame


def _taken(out: Path) -> ConfigError:
    """The error for an output file that is there."""
    return ConfigError(f"{out} exists; choose another --out, a calibration is never overwritten.")


def calibrate(
    model: ModelArgument,
    *,
    out: Annotated[Path, typer.Option("--out", help="Model file to write; it must not exist yet.")],
    backend: Annotated[str, typer.Option("--backend", help="exact, statevector, aer, fake_NAME or ibm_NAME.")],
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Directory for jobs and their results; made for ibm_NAME beside --out, else not kept."
        ),
    ] = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: MitigationOption = "none",
    options: RuntimeOptions = None,
    decoupling: DecouplingOption = False,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Write a model whose energies and forces come from operators that a backend measured.

    Jobs on a device are written down before they are waited for: after a crash the same command goes on.
    """
    from qiskit_qff.evaluators.backends import NOISELESS, Settings, is_simulated
    from qiskit_qff.model.calibration import estimate
    from qiskit_qff.model.force_field import ForceField

    output = Output(as_json=json)
    if out.exists():
        raise _taken(out)
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no directory; make it first, or choose another --out.")
    if run is not None and backend in NOISELESS:
        raise ConfigError(f"backend '{backend}' has no jobs to keep; leave --run out.")
    field = ForceField.load(model_file(model))
    settings = Settings(backend, shots, mitigation, decoupling, read_yaml(options) if options else None)
    settings.check()
    counts, words = estimate(field, settings, ask_server=dry_run)
    if dry_run:
        output.say(f"would send {words}; nothing was sent or written")
        output.finish(counts)
        return
    output.note(words)
    if run is None and not is_simulated(backend):
        run = out.with_suffix(".run")
    calibrated, cost = _measure(field, settings, seed, run, output, mode=counts.get("mode", "job"))
    spent = {"n_circuits": cost.circuits, "n_settings": cost.circuits, "n_shots": cost.shots}
    _finish(calibrated, out, spent | {"run": run, "seed": seed}, output)


def _measure(
    field: "ForceField", settings: "Settings", seed: int, run: Path | None, output: Output, *, mode: str
) -> "tuple[ForceField, Cost]":
    """Measure M of every register, from what is in the directory of an earlier process where that is possible."""
    from datetime import UTC, datetime

    import numpy as np

    from qiskit_qff.evaluators.backends import build_evaluator, find_device
    from qiskit_qff.evaluators.ibm_account import opened
    from qiskit_qff.evaluators.jobs import JobStore
    from qiskit_qff.evaluators.measured_operator import Provenance
    from qiskit_qff.model.calibration import calibrate as measure

    date, jobs = datetime.now(tz=UTC).isoformat(timespec="seconds"), None
    with ExitStack() as stack:
        if run is not None:
            jobs = stack.enter_context(closing(JobStore(run, asdict(settings) | {"seed": seed})))
            date = jobs.once("date", lambda: date)
            output.note(f"jobs and results are kept in {run}; after an interruption the same command goes on")
        batch = None if mode == "job" else stack.enter_context(opened(find_device(settings.backend).backend, mode))
        factory = partial(build_evaluator, settings, rng=np.random.default_rng(seed), mode=batch, jobs=jobs)
        with output.progress("measuring"):
            return measure(field, factory, provenance=Provenance(**asdict(settings), date=date, seed=seed))


def _finish(field: "ForceField", out: Path, extra: dict[str, Any], output: Output) -> None:
    """Write the calibrated model; say what was measured, and where it was written."""
    from qiskit_qff.model.calibration import calibration_summary
    from qiskit_qff.model.species_model import parameter_count, parameters_in_words

    try:
        field.save(out, replace=False)
    except FileExistsError:
        raise _taken(out) from None
    output.say(parameters_in_words(field.n_trainable))
    summary = calibration_summary(field)
    print_calibration(summary, output)
    output.say(f"circuits: {extra['n_circuits']}, shots: {extra['n_shots']}")
    output.say(f"written: {out}")
    counted = parameter_count(field.n_trainable)
    output.finish({"model": out, **counted, **extra, "calibration": summary})


def print_calibration(summary: Mapping[str, Mapping[str, Any]], output: Output) -> None:
    """A summary of :func:`~qiskit_qff.model.calibration.calibration_summary` as a table; nothing for an empty one."""
    if not summary:
        return
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
    for symbol, entry in summary.items():
        if entry["qubits"]:
            readout, gates = (
                f"{100 * min(errors):.2g} to {100 * max(errors):.2g} %" if errors else "unknown"
                for errors in (entry["readout_errors"], entry["two_qubit_errors"])
            )
            line = ", ".join(map(str, entry["qubits"]))
            output.say(f"  {symbol}: qubits {line}; errors of readout {readout}, of two-qubit gates {gates}")
    for origin in sorted({entry["noise_model"] for entry in summary.values()} - {""}):
        output.say(f"  noise model of the mitigation: {origin}")


def calibration_extra(field: "ForceField", frames: Sequence["Frame"]) -> dict[str, Any]:
    """Root mean square standard errors of frames and where they come from; nothing where M is not measured."""
    from qiskit_qff.model.calibration import calibration_errors, calibration_summary, is_calibrated, rms_std_errors

    if not is_calibrated(field):
        return {}
    return {**rms_std_errors(calibration_errors(field, frames), frames), "calibration": calibration_summary(field)}


def calibration_note(field: "ForceField") -> tuple[str, dict[str, Any]]:
    """One line for a run with a calibrated model, and the same for JSON; empty where nothing was measured."""
    from qiskit_qff.model.calibration import calibration_summary

    if not (summary := calibration_summary(field)):
        return "", {}
    origins = {
        f"{entry['backend']}, {entry['date']}, {entry['shots']} shots, mitigation {entry['mitigation']}"
        + (", dynamical decoupling" if entry["dynamical_decoupling"] else "")
        for entry in summary.values()
    }
    return f"calibrated model ({', '.join(summary)}): {'; '.join(sorted(origins))}", {"calibration": summary}
