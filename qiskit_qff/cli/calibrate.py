"""``qff calibrate``: measure a model's operators on a backend once; dynamics then runs on what was measured."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.calibration_run import measure_in_jobs, rehearse
from qiskit_qff.cli.calibration_summary import print_calibration
from qiskit_qff.cli.options import DecouplingOption, DesignOption, DryRunOption, JsonOption, SeedOption, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.protocol import Cost
    from qiskit_qff.model.force_field import ForceField


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
        typer.Option("--from", metavar="RUN", help="Measure nothing: take what a run of hardware/ or --run holds."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Directory for jobs and their results; made for ibm_NAME beside --out, else not kept."
        ),
    ] = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Shots per circuit.")] = 4096,
    mitigation: Annotated[str, typer.Option("--mitigation", help="Error mitigation preset.")] = "none",
    decoupling: DecouplingOption = False,
    design: DesignOption = "auto",
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Write a model whose energies and forces come from operators that a backend measured.

    Jobs on a device are written down before they are waited for: after a crash the same command goes on.
    """
    from qiskit_qff.evaluators.backends import NOISELESS
    from qiskit_qff.evaluators.strategies.spectrum import check_design
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.remote.results import calibrated_model
    from qiskit_qff.model.remote.run_directory import Settings

    output = Output(as_json=json)
    _check_sources(model, backend=backend, source=source, run=run, dry_run=dry_run)
    check_design(design)
    _check_out(out)
    if dry_run and backend is not None:
        assert model is not None
        rehearse(model_file(model), Settings(backend, shots, mitigation, decoupling, design, "batch", seed), output)
        return
    extra: dict[str, Any] = {"seed": seed}
    if source is not None:
        calibrated = calibrated_model(source, field=None if model is None else ForceField.load(model_file(model)))
        extra = {"run": source}
    elif backend in NOISELESS:
        assert model is not None
        field = ForceField.load(model_file(model))
        calibrated, cost = _measure_directly(
            field,
            output,
            backend=backend,
            shots=shots,
            mitigation=mitigation,
            decoupling=decoupling,
            design=design,
            seed=seed,
        )
        extra |= {"n_circuits": cost.circuits, "n_shots": cost.shots}
    else:
        assert model is not None
        assert backend is not None
        calibrated, spent = measure_in_jobs(
            model_file(model),
            output,
            backend=backend,
            shots=shots,
            mitigation=mitigation,
            decoupling=decoupling,
            design=design,
            seed=seed,
            directory=out.with_suffix(".run") if run is None and backend.startswith("ibm_") else run,
        )
        extra |= spent
    _save(calibrated, out)
    _tell(calibrated, out, extra, output)


def _check_sources(
    model: Path | None, *, backend: str | None, source: Path | None, run: Path | None, dry_run: bool
) -> None:
    """Refuse a command line that does not say what to calibrate, or with what.

    Raises:
        ConfigError: if MODEL or --backend is missing, or contradicts --from.
    """
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


def _measure_directly(
    field: "ForceField",
    output: Output,
    *,
    backend: str,
    shots: int,
    mitigation: str,
    decoupling: bool,
    design: str,
    seed: int,
) -> tuple["ForceField", "Cost"]:
    """Measure without jobs, on a simulator without noise of its own.

    Raises:
        ConfigError: if the backend can't do what is asked.
    """
    import numpy as np

    from qiskit_qff.evaluators.backends import evaluators_for
    from qiskit_qff.model.calibrated_operator import Provenance
    from qiskit_qff.model.calibration import calibrate as measure

    rng = np.random.default_rng(seed)
    date = datetime.now(tz=UTC).isoformat(timespec="seconds")
    with output.progress("measuring"):
        return measure(
            field,
            evaluator_for=evaluators_for(
                backend, shots=shots, mitigation=mitigation, dynamical_decoupling=decoupling, rng=rng
            ),
            provenance=Provenance(backend, shots, mitigation, date, seed),
            design=design,
        )


def _save(field: "ForceField", out: Path) -> None:
    """Write the calibrated model.

    Raises:
        ConfigError: if a file of this name has appeared since the start.
    """
    try:
        field.save(out, replace=False)
    except FileExistsError:
        raise _exists(out) from None


def _tell(field: "ForceField", out: Path, extra: dict[str, Any], output: Output) -> None:
    """Say what was measured, what was not, and where it was written."""
    from collections import Counter

    from ase.data import chemical_symbols

    summary = print_calibration(field, output)
    left = Counter(chemical_symbols[z] for (z, _), register in field.registers.items() if register.measured is None)
    missing = list(left)
    if missing:
        words = ", ".join(f"{symbol} ({count} registers)" for symbol, count in left.items())
        output.note(f"not measured, still computed exactly: {words}")
    if "n_circuits" in extra:
        output.say(f"circuits: {extra['n_circuits']}, shots: {extra['n_shots']}")
    output.say(f"written: {out}")
    output.finish({"model": out, **extra, "calibration": summary, "missing": missing})


def _check_out(out: Path) -> None:
    """Refuse, before anything is paid, a file that cannot be written or would be lost.

    Raises:
        ConfigError: if it exists, or its directory doesn't.
    """
    if out.exists():
        raise _exists(out)
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no directory; make it first, or choose another --out.")


def _exists(out: Path) -> ConfigError:
    """The error for a file that would be lost."""
    return ConfigError(f"{out} exists; choose another --out, a calibration is never overwritten.")
