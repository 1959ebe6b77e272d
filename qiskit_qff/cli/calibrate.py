"""``qff calibrate``: measure a model's operators on a backend once; dynamics then runs on what was measured."""

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import DecouplingOption, DryRunOption, JsonOption, MitigationOption, SeedOption, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.durable import locked_directory
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.calibration_run import Settings
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame

MOST_ATOMS = 10_000
"""Largest frame whose standard errors are told: beyond it they take longer than many steps of dynamics."""


def _taken(out: Path) -> ConfigError:
    """The error for an output file that is there."""
    return ConfigError(f"{out} exists; choose another --out, a calibration is never overwritten.")


def calibrate(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="Model file, or its directory; with --from by default that of the run."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="Model file to write; it must not exist yet.")],
    backend: Annotated[
        str | None, typer.Option("--backend", help="exact, statevector, aer, fake_NAME or ibm_NAME.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Use the results in this run directory (from --run or hardware/) instead of measuring.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Directory for jobs and their results; made for ibm_NAME beside --out, else not kept."
        ),
    ] = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: MitigationOption = "none",
    decoupling: DecouplingOption = False,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Write a model whose energies and forces come from operators that a backend measured.

    Jobs on a device are written down before they are waited for: after a crash the same command goes on.
    """
    from qiskit_qff.evaluators.backends import NOISELESS
    from qiskit_qff.model.calibration_run import Settings, calibrated_model, calibration_cost
    from qiskit_qff.model.force_field import ForceField

    output = Output(as_json=json)
    _check_sources(model, backend=backend, source=source, run=run, dry_run=dry_run)
    if out.exists():
        raise _taken(out)
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no directory; make it first, or choose another --out.")
    if source is not None:
        field = None if model is None else ForceField.load(model_file(model))
        _finish(calibrated_model(source, field=field), out, {"run": source}, output)
        return
    assert model is not None
    assert backend is not None
    path = model_file(model)
    # A device has no seed.
    settings = Settings(backend, shots, mitigation, decoupling, "batch", None if backend.startswith("ibm_") else seed)
    if dry_run:
        counts, words = calibration_cost(ForceField.load(path), settings)
        output.say(f"would send {words}; nothing was sent or written")
        output.finish(counts)
        return
    if backend in NOISELESS:
        calibrated, extra = _measure_directly(path, settings, output)
    else:
        calibrated, extra = _measure_in_jobs(path, settings, output, out=out, kept=run)
    _finish(calibrated, out, extra | {"seed": seed}, output)


def _check_sources(
    model: Path | None, *, backend: str | None, source: Path | None, run: Path | None, dry_run: bool
) -> None:
    """Refuse a command line that does not say what to calibrate, or with what."""
    if source is not None:
        if backend is not None or run is not None or dry_run:
            raise ConfigError("--from takes what was measured before; leave --backend, --run and --dry-run out.")
        return
    if backend is None:
        raise ConfigError("say where to measure (--backend, for example fake_torino), or what to import (--from RUN).")
    if model is None:
        raise ConfigError("name the MODEL to calibrate: a model.json, or the directory that holds it.")
    if run is not None and backend in {"exact", "statevector"}:
        raise ConfigError(f"backend '{backend}' has no jobs to keep; leave --run out.")


def _measure_directly(path: Path, settings: "Settings", output: Output) -> tuple["ForceField", dict[str, Any]]:
    """Measure without jobs, on a simulator without noise of its own."""
    from datetime import UTC, datetime

    import numpy as np

    from qiskit_qff.evaluators.backends import evaluators_for
    from qiskit_qff.model.calibrated_operator import Provenance
    from qiskit_qff.model.calibration import calibrate as measure
    from qiskit_qff.model.force_field import ForceField

    factory = evaluators_for(
        settings.backend,
        shots=settings.shots,
        mitigation=settings.mitigation,
        dynamical_decoupling=settings.dynamical_decoupling,
        rng=np.random.default_rng(settings.seed),
    )
    date = datetime.now(tz=UTC).isoformat(timespec="seconds")
    origin = Provenance(settings.backend, settings.shots, settings.mitigation, date, settings.seed)
    with output.progress("measuring"):
        calibrated, cost = measure(ForceField.load(path), evaluator_for=factory, provenance=origin)
    return calibrated, {"n_circuits": cost.circuits, "n_settings": cost.circuits, "n_shots": cost.shots}


def _measure_in_jobs(
    path: Path, settings: "Settings", output: Output, *, out: Path, kept: Path | None
) -> tuple["ForceField", dict[str, Any]]:
    """Measure by jobs of a device or of what stands in for one, in a directory that may be gone afterwards."""
    from qiskit_qff.model.calibration_run import calibrate_by_jobs

    directory = out.with_suffix(".run") if kept is None and settings.seed is None else kept
    with ExitStack() as stack:
        if directory is not None:
            stack.enter_context(locked_directory(directory, option="--run"))
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qff-calibrate-")))
        calibrated, run = calibrate_by_jobs(path, place, settings, output.note)
    circuits = sum(job.circuits for job in run.jobs)
    spent = {"n_circuits": circuits, "n_settings": circuits, "n_shots": circuits * settings.shots}
    return calibrated, {**spent, "run": directory}


def _finish(field: "ForceField", out: Path, extra: dict[str, Any], output: Output) -> None:
    """Write the calibrated model; say what was measured, what was not, and where it was written."""
    from ase.data import chemical_symbols

    from qiskit_qff.model.calibration import calibration_summary
    from qiskit_qff.model.ledger import parameter_count, parameters_in_words

    try:
        field.save(out, replace=False)
    except FileExistsError:
        raise _taken(out) from None
    output.say(parameters_in_words(field.n_trainable))
    summary = calibration_summary(field)
    print_calibration(summary, output)
    left = Counter(chemical_symbols[z] for (z, _), register in field.registers.items() if register.measured is None)
    if left:
        words = ", ".join(f"{symbol} ({count} registers)" for symbol, count in left.items())
        output.note(f"not measured, still computed exactly: {words}")
    if "n_circuits" in extra:
        output.say(f"circuits: {extra['n_circuits']}, shots: {extra['n_shots']}")
    output.say(f"written: {out}")
    counted = parameter_count(field.n_trainable)
    output.finish({"model": out, **counted, **extra, "calibration": summary, "missing": list(left)})


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


def calibration_extra(field: "ForceField", frames: Sequence["Frame"]) -> dict[str, Any]:
    """Root mean square standard errors of frames and where they come from; nothing where M is not measured."""
    from qiskit_qff.model.calibration import calibration_errors, calibration_summary, is_calibrated, spread

    if not is_calibrated(field):
        return {}
    return {**spread(calibration_errors(field, frames), frames), "calibration": calibration_summary(field)}


def calibration_note(field: "ForceField", frame: "Frame") -> tuple[str, dict[str, Any]]:
    """One line for a run with a calibrated model, and the same for JSON; empty where nothing was measured."""
    from qiskit_qff.model.calibration import calibration_summary

    if not (summary := calibration_summary(field)):
        return "", {}
    known = calibration_extra(field, [frame]) if frame.n_atoms <= MOST_ATOMS else {"calibration": summary}
    origins = {
        f"{entry['backend']}, {entry['date']}, {entry['shots']} shots, mitigation {entry['mitigation']}"
        + (", dynamical decoupling" if entry["dynamical_decoupling"] else "")
        for entry in summary.values()
    }
    precision, error = "", known.get("force_std_mev_per_ang")
    if isinstance(error, float):  # not asked of large frames
        told = f"{error:.4g} meV/Å (rms)" if math.isfinite(error) else "unknown"
        precision = f"; standard error of the first frame's forces: {told}"
    return f"calibrated model ({', '.join(summary)}): {'; '.join(sorted(origins))}{precision}", known
