"""``qff evaluate``: energy, force and stress errors on labelled structures, exact or through an Estimator."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.calibration_summary import calibration_extra, print_summary, spread
from qiskit_qff.cli.evaluation_rehearsal import rehearse
from qiskit_qff.cli.options import (
    DataArgument,
    DecouplingOption,
    DesignOption,
    DryRunOption,
    ForceOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    model_file,
)
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.uncertainty_summary import print_uncertainty
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.measured import Strategy
    from qiskit_qff.report.metrics import Comparison, Metrics
    from qiskit_qff.structures.frame import Frame


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
    design: DesignOption = "auto",
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
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for errors and predictions, for qff report.")
    ] = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Compare a model with ab initio labels it has not seen."""
    from qiskit_qff.cli.evaluation_output import check_evaluation_directory, write_evaluation
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.shipped import read_source
    from qiskit_qff.structures.validation import ensure_sound

    output = Output(as_json=json)
    _check_choices(backend, strategy, mitigation, design, dynamical_decoupling=decoupling)
    if uncertainty and (backend != "exact" or shots is not None):
        raise ConfigError("--uncertainty is that of the model itself: leave --backend and --shots out.")
    is_exact = backend == "exact" and shots is None
    check_evaluation_directory(out, force=force)
    field = ForceField.load(model_file(model))
    frames = read_source(data)
    ensure_sound(frames)
    if dry_run:
        asked = {"backend": backend, "strategy": strategy, "mitigation": mitigation}
        rehearse(field, frames, output, design=design, decoupling=decoupling, shots=shots, **asked)
        return
    if is_exact:
        comparison = compare_exactly(field, frames, output, shift_energy=shift_energy)
        extra = calibration_extra(field, frames)
        if uncertainty:
            extra |= {"uncertainty": print_uncertainty(field, frames, comparison, output)}
    else:
        comparison, extra = _compare_on_backend(
            field,
            frames,
            output,
            backend=backend,
            design=design,
            strategy=strategy,  # type: ignore[arg-type]  # checked by predict_measured
            mitigation=mitigation,
            decoupling=decoupling,
            shots=shots,
            seed=seed,
            shift_energy=shift_energy,
        )
    if out is not None:
        write_evaluation(out, frames, comparison, extra, data=data, shift_energy=shift_energy)
        output.note(f"kept in {out}: qff report {out}")
    _report(comparison, extra, output, shift_energy=shift_energy)


def compare_exactly(
    field: "ForceField", frames: Sequence["Frame"], output: Output, *, shift_energy: bool = False
) -> "Comparison":
    """Predictions by exact linear algebra beside the labels.

    Args:
        field: the model.
        frames: labelled structures.
        output: shows the progress.
        shift_energy: remove one constant per composition.

    Raises:
        DataError: if a frame holds an element that the model does not know, or no frame has labels.
    """
    from qiskit_qff.report.metrics import compare

    energies, forces, stresses = [], [], []
    with output.progress("evaluating") as advance:
        for done, frame in enumerate(frames, start=1):
            prediction = field.predict(frame)
            energies.append(prediction.energy)
            forces.append(prediction.forces)
            stresses.append(prediction.stress(frame.volume) if frame.pbc.all() else None)
            advance("", done, len(frames))
    return compare(frames, energies=energies, forces=forces, stresses=stresses, shift_energy=shift_energy)


def metrics_table(named: dict[str, "Metrics"], output: Output) -> None:
    """The errors of one or more sets as a table, and by element for the last one."""
    output.table(
        "errors",
        ("set", "frames", "energy MAE", "RMSE (meV/atom)", "force MAE", "RMSE (meV/Å)"),
        [
            (
                name,
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


def _check_choices(backend: str, strategy: str, mitigation: str, design: str, *, dynamical_decoupling: bool) -> None:
    """Refuse unknown words, also where they would have no effect, before any file is read.

    Raises:
        ConfigError: if the strategy or mitigation is unknown, or the backend has no noise to mitigate.
    """
    from qiskit_qff.evaluators.backends import NOISELESS, check_noiseless
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.evaluators.strategies.spectrum import check_design
    from qiskit_qff.model.measured import check_strategy

    check_strategy(strategy)
    check_design(design)
    find_preset(mitigation)
    if backend in NOISELESS:
        check_noiseless(backend, mitigation=mitigation, dynamical_decoupling=dynamical_decoupling)


def _compare_on_backend(
    field: "ForceField",
    frames: Sequence["Frame"],
    output: Output,
    *,
    backend: str,
    design: str,
    strategy: "Strategy",
    mitigation: str,
    decoupling: bool,
    shots: int | None,
    seed: int,
    shift_energy: bool,
) -> tuple["Comparison", dict[str, Any]]:
    """Predictions through an Estimator beside the labels, and what they cost.

    Raises:
        ConfigError: if a choice is unknown, or the backend can't do it.
        BackendError: if the backend can't be reached.
    """
    import numpy as np

    from qiskit_qff.evaluators.backends import build_evaluator
    from qiskit_qff.model.calibration import is_calibrated
    from qiskit_qff.model.measured import predict_measured
    from qiskit_qff.report.metrics import compare

    rng = np.random.default_rng(seed)
    if is_calibrated(field):
        output.note(f"the model's own calibration is not used here: its circuits are measured anew on {backend}")
    with output.progress("measuring") as advance:
        measured = predict_measured(
            field,
            frames,
            evaluator_for=lambda size: build_evaluator(
                backend,
                n_qubits=size,
                shots=shots,
                mitigation=mitigation,
                dynamical_decoupling=decoupling,
                rng=rng,
            ),
            strategy=strategy,
            shots=shots,
            design=design,
            progress=advance,
        )
    comparison = compare(
        frames,
        energies=[prediction.energy for prediction in measured.frames],
        forces=[prediction.forces for prediction in measured.frames],
        stresses=[prediction.stress for prediction in measured.frames],
        shift_energy=shift_energy,
    )
    extra = {
        **spread(measured.frames, frames),
        "n_circuits": measured.cost.circuits,
        "n_shots": measured.cost.shots,
        "qpu_seconds": measured.cost.seconds,
        "backend": backend,
        "strategy": strategy,
        "design": design,
        "mitigation": mitigation,
        "dynamical_decoupling": decoupling,
        "seed": seed,
    }
    return comparison, extra


def _report(comparison: "Comparison", extra: dict[str, Any], output: Output, *, shift_energy: bool) -> None:
    """Tell the errors, and what the backend did if one was used."""
    from qiskit_qff.report.metrics import measure

    metrics = measure(comparison, shift_energy=shift_energy)
    metrics_table({"all": metrics}, output)
    for key, value in extra.items():
        if key == "calibration":
            print_summary(value, output)
        elif key != "uncertainty":
            output.say(f"{key}: {value}")
    output.finish({**metrics.to_dict(), **extra})
