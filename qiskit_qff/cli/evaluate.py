"""``qff evaluate``: energy, force and stress errors on labelled structures, exact or through an Estimator."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.calibrate import calibration_extra, print_calibration
from qiskit_qff.cli.options import (
    DecouplingOption,
    ForceOption,
    JsonOption,
    MitigationOption,
    ModelArgument,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory
from qiskit_qff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qiskit_qff.evaluators.backends import Settings
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.metrics import Comparison, Metrics
    from qiskit_qff.structures.frame import Frame


def evaluate(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Structures: extxyz (.xz, .gz), vasprun.xml, .db, .traj, ..., 'shipped', 'li6ps5cl'.",
        ),
    ],
    *,
    backend: Annotated[
        str,
        typer.Option("--backend", help="exact, statevector, aer or fake_NAME; calibrate first for ibm_NAME."),
    ] = "exact",
    mitigation: MitigationOption = "none",
    decoupling: DecouplingOption = False,
    shots: Annotated[
        int | None,
        typer.Option("--shots", min=1, help="Shots per circuit; without it values carry no shot noise."),
    ] = None,
    seed: SeedOption = 0,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="With exact: compare expected with found errors, and grade the frames."),
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Leave out frames that the model was trained on.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for errors and predictions, for qff report.")
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Compare a model with ab initio labels."""
    from qiskit_qff.evaluators.backends import Settings
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.metrics import compare_model, measure
    from qiskit_qff.model.species_model import parameter_count, parameters_in_words
    from qiskit_qff.report.record import EVALUATION, RECORD, write_record

    output = Output(as_json=json)
    is_exact = backend == "exact" and shots is None
    settings = Settings(backend, shots, mitigation, decoupling)
    settings.check()
    if uncertainty and not is_exact:
        raise ConfigError("--uncertainty is that of the model itself: leave --backend and --shots out.")
    if out is not None:
        check_output_directory(out, owned=(EVALUATION, RECORD, "report.html"), force=force)
    field = ForceField.load(model_file(model))
    if uncertainty:
        field.uncertainty()  # refuses a model without a posterior before any work is done
    frames, n_seen = _read(field, data, output, held_out=held_out)
    if is_exact:
        used, measurement = field, calibration_extra(field, frames)
    else:
        used, measurement = _measure(field, frames, settings, seed, output)
        measurement |= asdict(settings) | {"seed": seed}
    with output.progress("evaluating") as advance:
        comparison = compare_model(used, frames, progress=advance)
    metrics = measure(comparison)
    output.say(parameters_in_words(field.n_trainable))
    result = metrics.to_dict() | parameter_count(field.n_trainable) | measurement
    result["n_frames_seen_in_training"] = n_seen
    if uncertainty:
        result["uncertainty"] = _tell_uncertainty(field, frames, comparison, output)
    if out is not None:
        with staged_directory(out) as staging:
            (staging / EVALUATION).write_text(json_text({"data": data.name, **result}), encoding="utf-8")
            write_record(staging, {"all": comparison})
        output.note(f"kept in {out}: qff report {out}")
    metrics_table({"all": metrics}, output)
    if n_seen:
        output.note(
            f"the model was trained on {n_seen} of these {len(frames)} frames: the errors are too small. --held-out "
            "leaves them out"
        )
    print_calibration(measurement.get("calibration", {}), output)
    for key, value in measurement.items():
        if key != "calibration":
            output.say(f"{key}: {value}")
    output.finish(result)


def _measure(
    field: "ForceField", frames: Sequence["Frame"], settings: "Settings", seed: int, output: Output
) -> "tuple[ForceField, dict[str, Any]]":
    """The model with operators that a backend has measured, what they cost, and the errors that come of them."""
    import numpy as np

    from qiskit_qff.evaluators.backends import build_evaluator, find_device, is_simulated
    from qiskit_qff.evaluators.measured_operator import Provenance
    from qiskit_qff.model.calibration import calibrate, calibration_errors, is_calibrated, rms_std_errors

    if not is_simulated(settings.backend):
        find_device(settings.backend)  # an unknown one gets advice on its name
        raise ConfigError(
            "evaluate keeps no jobs, so an interruption would lose what was paid: first qff calibrate MODEL --backend "
            f"{settings.backend} --out measured.json, then evaluate measured.json without --backend."
        )
    if is_calibrated(field):
        output.note("the model's own calibration is not used here: its circuits are measured anew")
    factory = partial(build_evaluator, settings, rng=np.random.default_rng(seed))
    with output.progress("measuring"):
        measured, cost = calibrate(field, factory, provenance=Provenance(settings.backend, settings.shots))
    return measured, {
        **rms_std_errors(calibration_errors(measured, frames), frames),
        "n_circuits": cost.circuits,
        "n_shots": cost.shots,
        "qpu_seconds": cost.seconds,
    }


def _read(field: "ForceField", data: Path, output: Output, *, held_out: bool) -> "tuple[list[Frame], int | None]":
    """The frames to evaluate, and how many of them the model was trained on; None where its file does not say."""
    from qiskit_qff.structures.dataset import read_frames
    from qiskit_qff.structures.frame import species_index
    from qiskit_qff.structures.validation import ensure_sound

    frames = read_frames(data)
    ensure_sound(frames)
    for frame in frames:
        species_index(frame.numbers, field.species, where=frame.where)  # before anything is paid for
    unseen = [frame for frame in frames if not field.has_seen(frame)]
    n_seen = len(frames) - len(unseen) if field.training_hashes else None
    if not held_out:
        return frames, n_seen
    if n_seen is None:
        raise ConfigError("--held-out: the model file does not say which frames it was trained on. Train again.")
    if not unseen:
        raise DataError(f"--held-out: the model was trained on all {len(frames)} frames; give others.")
    output.note(f"left out: {n_seen} of {len(frames)} frames that the model was trained on")
    return unseen, 0


def metrics_table(named: "Mapping[str, Metrics]", output: Output) -> None:
    """The errors of one or more sets as a table, and by element for the last one."""
    columns = ("n_frames", "energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_ang",
               "force_rmse_mev_per_ang")  # fmt: skip
    output.table(
        "errors",
        ("set", "frames", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)"),
        [
            ("test, linear model" if name == "linear_test" else name, *(getattr(metrics, key) for key in columns))
            for name, metrics in named.items()
        ],
    )
    name, last = list(named.items())[-1]
    if last.stress_mae_mev_per_ang3 is not None:
        mae, rmse = last.stress_mae_mev_per_ang3, last.stress_rmse_mev_per_ang3
        output.say(f"stress, {name}: MAE {mae:.4g}, RMSE {rmse:.4g} meV/Å³")
    if last.species:
        output.table(
            f"forces by element, {name} (meV/Å)",
            ("element", "atoms", "MAE", "RMSE", "RMS of the labels"),
            [(symbol, *errors.values()) for symbol, errors in last.species.items()],
        )


def tell_coverage(found: Mapping[str, Any], output: Output) -> None:
    """Print how large uncertainties are, and how many errors they cover."""
    from qiskit_qff.model.metrics import ONE_SIGMA

    output.say(
        f"uncertainty: {found['force_std_mev_per_ang']:.3g} meV/Å, {found['energy_std_mev_per_atom']:.3g} meV/atom; "
        f"68 % intervals hold {found['forces'][ONE_SIGMA]:.0%} of force errors, "
        f"{found['energies'][ONE_SIGMA]:.0%} of energy errors"
    )


def _tell_uncertainty(
    field: "ForceField", frames: Sequence["Frame"], comparison: "Comparison", output: Output
) -> dict[str, Any]:
    """Tell how uncertainties compare with errors, and which frames are outside the training data."""
    from qiskit_qff.model.metrics import coverage, deviations_of

    if len(comparison.energies) < len(frames) or len(comparison.forces) < comparison.n_atoms:
        raise DataError("--uncertainty compares with errors: every frame needs its energy and all forces.")
    estimator = field.uncertainty()
    with output.progress("uncertainty") as advance:
        deviations = deviations_of(estimator, frames, comparison, progress=advance)
    found, posterior = coverage(deviations), estimator.posterior
    outside = [k for k, grade in enumerate(deviations.largest_grades) if not grade <= estimator.limit]
    tell_coverage(found, output)
    if not posterior.n_held_out:
        output.note("uncertainties are not scaled: nothing was held out")
    output.say(f"{len(outside)} of {len(frames)} frames have an atom outside the training data")
    return {
        **found,
        "factor": posterior.factor,
        "calibrated": posterior.n_held_out > 0,
        "frames_outside": outside,
        "largest_grade": float(deviations.largest_grades.max()),
    }
