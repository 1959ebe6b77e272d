"""``qff evaluate``: energy, force and stress errors on labelled structures, exact or through an Estimator."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.calibrate import calibration_extra, print_calibration
from qiskit_qff.cli.options import (
    DataArgument,
    DecouplingOption,
    DryRunOption,
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
    from qiskit_qff.array_types import FloatArray
    from qiskit_qff.model.calibration import EvaluatorFactory
    from qiskit_qff.model.force_field import ForceField
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
    import numpy as np

    from qiskit_qff.evaluators.backends import evaluators_for
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.ledger import parameter_count, parameters_in_words
    from qiskit_qff.model.metrics import measure
    from qiskit_qff.report.record import EVALUATION, NOT_IN_TRAINING, RECORD

    output = Output(as_json=json)
    is_exact = backend == "exact" and shots is None
    _check_choices(backend, mitigation, dynamical_decoupling=decoupling)
    if uncertainty and not is_exact:
        raise ConfigError("--uncertainty is that of the model itself: leave --backend and --shots out.")
    if out is not None:
        check_output_directory(out, owned=(EVALUATION, RECORD, "report.html"), force=force)
    field = ForceField.load(model_file(model))
    if uncertainty:
        field.uncertainty()  # refuses a model without a posterior before any work is done
    frames, seen = _read(field, data, output, held_out=held_out)
    rng = np.random.default_rng(seed)
    factory = evaluators_for(backend, shots=shots, mitigation=mitigation, dynamical_decoupling=decoupling, rng=rng)
    if dry_run:
        used = None if is_exact else factory
        _tell_plan(field, frames, output, backend, mitigation, factory=used, shots=shots)
        return
    if is_exact:
        predictions, measurement = _predict(field, frames, output), calibration_extra(field, frames)
    else:
        measured, measurement = _measure(field, frames, factory, shots, output)
        predictions = _predict(measured, frames, output)
        measurement |= {"backend": backend, "mitigation": mitigation}
        measurement |= {"dynamical_decoupling": decoupling, "seed": seed}
    output.say(parameters_in_words(field.n_trainable))
    comparisons = _compare(frames, predictions, seen, shift_energy=shift_energy)
    metrics = {name: measure(found, shift_energy=shift_energy) for name, found in comparisons.items()}
    result = metrics["all"].to_dict() | parameter_count(field.n_trainable) | measurement
    result["n_frames_seen_in_training"] = sum(seen) if seen else None
    if uncertainty:
        result["uncertainty"] = _tell_uncertainty(field, frames, comparisons["all"], output)
    if NOT_IN_TRAINING in metrics:
        result["unseen"] = metrics[NOT_IN_TRAINING].to_dict()
    if out is not None:
        _write(out, frames, comparisons, {"data": data.name, **result})
        output.note(f"kept in {out}: qff report {out}")
    _tell(metrics, sum(seen), measurement, output)
    output.finish(result)


def _tell(metrics: "dict[str, Metrics]", n_seen: int, measurement: dict[str, Any], output: Output) -> None:
    """Print the errors, and how the values were measured."""
    metrics_table(metrics, output)
    if n_seen:
        output.note(
            f"the model was trained on {n_seen} of these {metrics['all'].n_frames} frames: errors over all of them are "
            "too small. --held-out leaves them out"
        )
    for key, value in measurement.items():
        if key == "calibration":
            print_calibration(value, output)
        else:
            output.say(f"{key}: {value}")


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


def _compare(
    frames: Sequence["Frame"], predictions: "Sequence[Predicted]", seen: Sequence[bool], *, shift_energy: bool
) -> "dict[str, Comparison]":
    """Predictions beside labels, of all frames and, where they are only some, of those not trained on."""
    from qiskit_qff.model.metrics import compare
    from qiskit_qff.report.record import NOT_IN_TRAINING

    chosen = {"all": list(zip(frames, predictions, strict=True))}
    if 0 < sum(seen) < len(frames):
        chosen[NOT_IN_TRAINING] = [pair for pair, known in zip(chosen["all"], seen, strict=True) if not known]
    return {
        name: compare(
            [frame for frame, _ in pairs],
            energies=[energy for _, (energy, _, _) in pairs],
            forces=[forces for _, (_, forces, _) in pairs],
            stresses=[stress for _, (_, _, stress) in pairs],
            shift_energy=shift_energy,
        )
        for name, pairs in chosen.items()
    }


def _read(field: "ForceField", data: Path, output: Output, *, held_out: bool) -> "tuple[list[Frame], list[bool]]":
    """The frames to evaluate, and which of them the model was trained on; nothing where its file does not say."""
    from qiskit_qff.structures.reading import read_frames
    from qiskit_qff.structures.validation import ensure_sound

    frames = read_frames(data)
    ensure_sound(frames)
    seen = [field.has_seen(frame) for frame in frames] if field.training_hashes else []
    if not held_out:
        return frames, seen
    if not seen:
        raise ConfigError("--held-out: the model file does not say which frames it was trained on. Train again.")
    kept = [frame for frame, known in zip(frames, seen, strict=True) if not known]
    if not kept:
        raise DataError(f"--held-out: the model was trained on all {len(frames)} frames; give others.")
    output.note(f"left out: {sum(seen)} of {len(frames)} frames that the model was trained on")
    return kept, [False] * len(kept)


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
            [(symbol, *vars(errors).values()) for symbol, errors in last.species.items()],
        )


def _check_choices(backend: str, mitigation: str, *, dynamical_decoupling: bool) -> None:
    """Refuse unknown words, also where they would have no effect, before any file is read."""
    from qiskit_qff.evaluators.backends import NOISELESS, check_noiseless
    from qiskit_qff.evaluators.mitigation import find_preset

    find_preset(mitigation)
    if backend in NOISELESS:
        check_noiseless(backend, mitigation=mitigation, dynamical_decoupling=dynamical_decoupling)


def _measure(
    field: "ForceField", frames: Sequence["Frame"], factory: "EvaluatorFactory", shots: int | None, output: Output
) -> "tuple[ForceField, dict[str, Any]]":
    """The model with operators that a backend has measured, what they cost, and the errors that come of them."""
    from qiskit_qff.model.calibrated_operator import Provenance
    from qiskit_qff.model.calibration import calibrate, calibration_errors, is_calibrated, spread

    if is_calibrated(field):
        output.note("the model's own calibration is not used here: its circuits are measured anew")
    with output.progress("measuring"):
        measured, cost = calibrate(field, evaluator_for=factory, provenance=Provenance("", shots, "", ""))
    return measured, {
        **spread(calibration_errors(measured, frames), frames),
        "n_circuits": cost.circuits,
        "n_shots": cost.shots,
        "qpu_seconds": cost.seconds,
    }


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


def _tell_plan(
    field: "ForceField",
    frames: "Sequence[Frame]",
    output: Output,
    backend: str,
    mitigation: str,
    *,
    factory: "EvaluatorFactory | None",
    shots: int | None,
) -> None:
    """Check model, data and backend, and say what would be measured; measure nothing."""
    from qiskit_qff.evaluators.backends import NOISELESS, find_device
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.evaluators.primitive import sets_per_job
    from qiskit_qff.model.quantum_cost import circuit_counts, place_registers
    from qiskit_qff.structures.frame import species_index

    for frame in frames:
        species_index(frame.numbers, field.species, where=frame.where)
    result: dict[str, Any] = {"n_frames": len(frames), "n_atoms": sum(frame.n_atoms for frame in frames)}
    output.say(f"would evaluate {result['n_frames']} frames, {result['n_atoms']} atoms in all, on {backend}")
    words = "by exact linear algebra, without a circuit"
    if factory is not None:
        factory(field.n_qubits, 1)  # refuses what the backend can't do
        device = None if backend in NOISELESS else find_device(backend, n_qubits=field.n_qubits)
        circuits = circuit_counts(field, place_registers(field, device))["calibration"]
        result |= {"n_circuits": circuits, "n_shots": circuits * (shots or 0)}
        words = f"by measuring M of every register: {circuits} circuits, {result['n_shots']} shots"
        if device is not None:
            jobs, timing = -(-circuits // sets_per_job(shots or 1)), find_preset(mitigation)
            result["qpu_seconds"] = device.timing(timing).seconds(shots=result["n_shots"], jobs=jobs)
            words += f"; on a device about {result['qpu_seconds']:.0f} s of processor time (estimate)"
        words += "; nothing was run"
    output.say(words)
    output.finish(result)


def _write(out: Path, frames: "Sequence[Frame]", comparisons: "dict[str, Comparison]", told: dict[str, Any]) -> None:
    """Write errors, predictions and one structure, in the form that ``qff report`` reads."""
    from qiskit_qff.report.record import EVALUATION, Example, Record, environment

    record = Record(
        comparisons=comparisons,
        example=Example.typical(frames, comparisons["all"], words="evaluated"),
        environment=environment(),
    )
    with staged_directory(out) as staging:
        (staging / EVALUATION).write_text(json_text(told), encoding="utf-8")
        record.write(staging)
