"""``qff evaluate``: energy, force and stress errors on labelled structures, exact or through an Estimator."""

import json as json_text
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.calibrate import calibration_extra, print_summary
from qiskit_qff.cli.options import (
    DataArgument,
    DecouplingOption,
    DryRunOption,
    ForceOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output, check_output_directory, plain, staged_directory
from qiskit_qff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qiskit_qff.array_types import FloatArray
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.measured import Strategy
    from qiskit_qff.model.metrics import Comparison, Metrics
    from qiskit_qff.structures.frame import Frame

    Predicted = tuple[float, FloatArray, FloatArray | None]
    """Energy in eV, forces in eV/Å and stress in eV/Å³ of a frame."""


def evaluate(
    model: ModelArgument,
    data: DataArgument,
    *,
    backend: Annotated[
        str,
        typer.Option("--backend", help="exact, statevector, aer, fake_NAME or ibm_NAME."),
    ] = "exact",
    strategy: Annotated[
        str,
        typer.Option("--strategy", help="environment, density or operator; not used by exact."),
    ] = "operator",
    mitigation: Annotated[
        str, typer.Option("--mitigation", help="Error mitigation preset; not used by exact.")
    ] = "none",
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
    shift_energy: Annotated[
        bool, typer.Option("--shift-energy", help="Remove one energy constant per composition first.")
    ] = False,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Leave out frames that the model was trained on.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for errors and predictions, for qff report.")
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Compare a model with ab initio labels."""
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.ledger import parameter_count, parameters_in_words
    from qiskit_qff.model.metrics import measure
    from qiskit_qff.report.record import EVALUATION, NOT_IN_TRAINING, RECORD
    from qiskit_qff.structures.reading import read_source
    from qiskit_qff.structures.validation import ensure_sound

    output = Output(as_json=json)
    _check_choices(backend, strategy, mitigation, dynamical_decoupling=decoupling)
    if uncertainty and (backend != "exact" or shots is not None):
        raise ConfigError("--uncertainty is that of the model itself: leave --backend and --shots out.")
    if out is not None:
        check_output_directory(out, owned=(EVALUATION, RECORD, "report.html"), force=force)
    field = ForceField.load(model_file(model))
    if uncertainty:
        field.uncertainty()  # refuses a model without a posterior before any work is done
    frames = read_source(data)
    ensure_sound(frames)
    frames, seen = _sorted_out(field, frames, output, held_out=held_out)
    if dry_run:
        asked = {"backend": backend, "strategy": strategy, "mitigation": mitigation}
        _rehearse(field, frames, output, decoupling=decoupling, shots=shots, **asked)
        return
    extra: dict[str, Any] = parameter_count(field.n_trainable)
    extra |= {"n_frames_seen_in_training": None if seen is None else sum(seen)}
    if backend == "exact" and shots is None:
        predictions = _predict(field, frames, output)
        extra |= calibration_extra(field, frames)
    else:
        predictions, measured = _measure(
            field,
            frames,
            output,
            backend=backend,
            strategy=strategy,  # type: ignore[arg-type]  # checked by predict_measured
            mitigation=mitigation,
            decoupling=decoupling,
            shots=shots,
            seed=seed,
        )
        extra |= measured
    output.say(parameters_in_words(field.n_trainable))
    comparison = _compare(frames, predictions, shift_energy=shift_energy)
    if uncertainty:
        extra |= {"uncertainty": _print_uncertainty(field, frames, comparison, output)}
    unseen = None
    if seen is not None and 0 < sum(seen) < len(frames):
        kept = [k for k, known in enumerate(seen) if not known]
        unseen = _compare([frames[k] for k in kept], [predictions[k] for k in kept], shift_energy=shift_energy)
        extra |= {"unseen": measure(unseen, shift_energy=shift_energy).to_dict()}
    if out is not None:
        known = {"all": comparison} | ({} if unseen is None else {NOT_IN_TRAINING: unseen})
        _write(out, frames, known, extra, data=data, shift_energy=shift_energy)
        output.note(f"kept in {out}: qff report {out}")
    _report(comparison, unseen, extra, output, shift_energy=shift_energy)


def _predict(field: "ForceField", frames: Sequence["Frame"], output: Output) -> "list[Predicted]":
    """Energy, forces and stress of each frame by exact linear algebra."""
    predictions: list[Predicted] = []
    with output.progress("evaluating") as advance:
        for done, frame in enumerate(frames, start=1):
            found = field.predict(frame)
            stress = found.stress(frame.volume) if frame.pbc.all() else None
            predictions.append((found.energy, found.forces, stress))
            advance("", done, len(frames))
    return predictions


def _compare(frames: Sequence["Frame"], predictions: "Sequence[Predicted]", *, shift_energy: bool) -> "Comparison":
    """Predictions beside labels."""
    from qiskit_qff.model.metrics import compare

    return compare(
        frames,
        energies=[energy for energy, _, _ in predictions],
        forces=[forces for _, forces, _ in predictions],
        stresses=[stress for _, _, stress in predictions],
        shift_energy=shift_energy,
    )


def _sorted_out(
    field: "ForceField", frames: "list[Frame]", output: Output, *, held_out: bool
) -> "tuple[list[Frame], list[bool] | None]":
    """The frames to evaluate, and which of them the model was trained on; None where its file does not say."""
    if not field.training_hashes:
        if held_out:
            raise ConfigError("--held-out: the model file does not say which frames it was trained on. Train again.")
        return frames, None
    seen = [field.has_seen(frame) for frame in frames]
    if held_out:
        kept = [frame for frame, known in zip(frames, seen, strict=True) if not known]
        if not kept:
            raise DataError(f"--held-out: the model was trained on all {len(frames)} frames; give others.")
        output.note(f"left out: {sum(seen)} of {len(frames)} frames that the model was trained on")
        return kept, [False] * len(kept)
    return frames, seen


def metrics_table(named: dict[str, "Metrics"], output: Output) -> None:
    """The errors of one or more sets as a table, and by element for the last one."""
    output.table(
        "errors",
        ("set", "frames", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)"),
        [
            (
                "test, linear model" if name == "linear_test" else name,
                metrics.n_frames,
                metrics.energy_mae_mev_per_atom,
                metrics.energy_rmse_mev_per_atom,
                metrics.force_mae_mev_per_ang,
                metrics.force_rmse_mev_per_ang,
            )
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
            [
                (
                    symbol,
                    errors.n_atoms,
                    errors.force_mae_mev_per_ang,
                    errors.force_rmse_mev_per_ang,
                    errors.force_reference_rms_mev_per_ang,
                )
                for symbol, errors in last.species.items()
            ],
        )


def _check_choices(backend: str, strategy: str, mitigation: str, *, dynamical_decoupling: bool) -> None:
    """Refuse unknown words, also where they would have no effect, before any file is read."""
    from qiskit_qff.evaluators.backends import NOISELESS, check_noiseless
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.model.measured import check_strategy

    check_strategy(strategy)
    find_preset(mitigation)
    if backend in NOISELESS:
        check_noiseless(backend, mitigation=mitigation, dynamical_decoupling=dynamical_decoupling)


def _measure(
    field: "ForceField",
    frames: Sequence["Frame"],
    output: Output,
    *,
    backend: str,
    strategy: "Strategy",
    mitigation: str,
    decoupling: bool,
    shots: int | None,
    seed: int,
) -> "tuple[list[Predicted], dict[str, Any]]":
    """Energy, forces and stress of each frame through an Estimator, and what they cost."""
    import numpy as np

    from qiskit_qff.evaluators.backends import evaluators_for
    from qiskit_qff.model.calibration import is_calibrated, spread
    from qiskit_qff.model.measured import predict_measured

    rng = np.random.default_rng(seed)
    if is_calibrated(field):
        output.note(f"the model's own calibration is not used here: its circuits are measured anew on {backend}")
    with output.progress("measuring") as advance:
        measured = predict_measured(
            field,
            frames,
            evaluator_for=evaluators_for(
                backend, shots=shots, mitigation=mitigation, dynamical_decoupling=decoupling, rng=rng
            ),
            strategy=strategy,
            shots=shots,
            progress=advance,
        )
    predictions: list[Predicted] = [(found.energy, found.forces, found.stress) for found in measured.frames]
    extra = {
        **spread(measured.frames, frames),
        "n_circuits": measured.cost.circuits,
        "n_shots": measured.cost.shots,
        "qpu_seconds": measured.cost.seconds,
        "backend": backend,
        "strategy": strategy,
        "mitigation": mitigation,
        "dynamical_decoupling": decoupling,
        "seed": seed,
    }
    return predictions, extra


def _report(
    comparison: "Comparison",
    unseen: "Comparison | None",
    extra: dict[str, Any],
    output: Output,
    *,
    shift_energy: bool,
) -> None:
    """Tell the errors, and what the backend did if one was used."""
    from qiskit_qff.model.metrics import measure
    from qiskit_qff.report.record import NOT_IN_TRAINING

    metrics = measure(comparison, shift_energy=shift_energy)
    more = {} if unseen is None else {NOT_IN_TRAINING: measure(unseen, shift_energy=shift_energy)}
    metrics_table({"all": metrics} | more, output)
    if seen := extra["n_frames_seen_in_training"]:
        output.note(
            f"the model was trained on {seen} of these {metrics.n_frames} frames: errors over all of them are too "
            "small. --held-out leaves them out"
        )
    for key, value in extra.items():
        if key == "calibration":
            print_summary(value, output)
        elif key not in {"uncertainty", "unseen", "n_trainable", "beyond_claim"}:
            output.say(f"{key}: {value}")
    output.finish({**metrics.to_dict(), **extra})


def _print_uncertainty(
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
    output.say(
        f"uncertainty: {found.force_std_mev_per_ang:.3g} meV/Å, {found.energy_std_mev_per_atom:.3g} meV/atom "
        f"({f'factor {posterior.factor:.2f}' if posterior.n_held_out else 'not scaled: nothing was held out'})"
    )
    output.table(
        "errors within intervals (%)",
        ("interval", "forces", "energies"),
        [(100 * found.nominal[k], 100 * found.forces[k], 100 * found.energies[k]) for k in (4, 6, 8, 9)],
    )
    output.say(f"{len(outside)} of {len(frames)} frames have an atom outside the training data")
    return {
        **found.to_dict(),
        "factor": posterior.factor,
        "calibrated": posterior.n_held_out > 0,
        "frames_outside": outside,
        "largest_grade": float(deviations.largest_grades.max()),
    }


def _rehearse(
    field: "ForceField",
    frames: "Sequence[Frame]",
    output: Output,
    *,
    backend: str,
    strategy: str,
    shots: int | None,
    mitigation: str,
    decoupling: bool,
) -> None:
    """Check model, data and backend, and say what would be measured; measure nothing."""
    import numpy as np

    from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, find_device
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.evaluators.primitive import sets_per_job
    from qiskit_qff.model.quantum_cost import evaluation_circuits
    from qiskit_qff.structures.frame import species_index

    for frame in frames:
        species_index(frame.numbers, field.species, where=frame.where)
    result: dict[str, Any] = {"n_frames": len(frames), "n_atoms": sum(frame.n_atoms for frame in frames)}
    output.say(f"would evaluate {result['n_frames']} frames, {result['n_atoms']} atoms in all, on {backend}")
    if backend == "exact" and shots is None:
        output.say("by exact linear algebra, without a circuit")
        output.finish(result)
        return
    build_evaluator(
        backend,
        n_qubits=field.n_qubits,
        shots=shots,
        mitigation=mitigation,
        dynamical_decoupling=decoupling,
        rng=np.random.default_rng(0),
    )
    device = None if backend in NOISELESS else find_device(backend, n_qubits=field.n_qubits)
    circuits = evaluation_circuits(field, frames, strategy, device)
    result |= {"n_circuits": circuits, "n_shots": circuits * (shots or 0)}
    words = f"by {strategy}: at most {circuits} circuits, {result['n_shots']} shots"
    if device is not None:
        jobs = -(-circuits // sets_per_job(shots or 1))
        result["qpu_seconds"] = device.timing(find_preset(mitigation)).seconds(shots=result["n_shots"], jobs=jobs)
        words += f"; on a device about {result['qpu_seconds']:.0f} s of processor time (estimate)"
    output.say(f"{words}; nothing was run")
    output.finish(result)


def _write(
    out: Path,
    frames: "Sequence[Frame]",
    comparisons: "Mapping[str, Comparison]",
    extra: Mapping[str, Any],
    *,
    data: Path,
    shift_energy: bool,
) -> None:
    """Write errors, predictions and one structure, in the form that ``qff report`` reads."""
    from qiskit_qff.model.metrics import measure
    from qiskit_qff.report.record import EVALUATION, Example, Record, environment

    metrics = measure(comparisons["all"], shift_energy=shift_energy)
    record = Record(
        comparisons=comparisons,
        example=Example.typical(frames, comparisons["all"], words="evaluated"),
        environment=environment(),
    )
    told = plain({"data": data.name, **metrics.to_dict(), **extra})
    with staged_directory(out) as staging:
        (staging / EVALUATION).write_text(json_text.dumps(told, indent=1) + "\n", encoding="utf-8")
        record.write(staging)
