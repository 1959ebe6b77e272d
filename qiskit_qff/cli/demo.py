"""``qff demo``: the main job on the shipped data, from ab initio frames to device forces, dynamics and a report."""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption, OutOption
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame

BACKEND, SHOTS, MITIGATION = "fake_kingston", 4096, "readout"


def demo(
    *,
    out: OutOption = Path("qff-demo"),
    fast: Annotated[bool, typer.Option("--fast", help="Shorter: a third of the frames, fewer steps.")] = False,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train on the shipped Li-MOF-5 data, measure forces on a fake device, run dynamics, and write a report."""
    from qiskit_qff.cli import train as run
    from qiskit_qff.structures.dataset import read_shipped
    from qiskit_qff.training.pipeline import train

    output = Output(as_json=json)
    begin = time.perf_counter()
    check_output_directory(out, owned=(*run.OWN_FILES, "md", "device.json"), force=force)
    output.say("Li4@MOF-5: 110 atoms, 5 elements, PBE-D3 energies and forces (shipped with the package)")
    with output.progress("training") as advance:
        trained = train(read_shipped()[::3] if fast else "shipped", progress=advance)
    run.tell(trained, output)
    field, frame = trained.force_field, trained.data.held_out[0]
    with output.progress("measuring forces"):
        measured = measure_forces(field, frame)
    output.say(
        f"forces of a held-out frame on {BACKEND}, {field.n_qubits + 1} settings of {SHOTS} shots: "
        f"{measured['force_mae_mev_per_ang']:.1f} meV/Å off the exact ones "
        f"(reported {measured['force_std_mev_per_ang']:.1f})"
    )
    with staged_directory(out) as staging:
        run.write_results(trained, staging)
        dynamics = _dynamics(field, trained.data.frames[0], staging / "md", output, steps=200 if fast else 600)
        run.write_report(staging)
    seconds = time.perf_counter() - begin
    output.say(f"report: {out / run.REPORT} (model, errors and trajectory beside it); {seconds:.0f} s in all")
    device = {"backend": BACKEND, "shots_per_circuit": SHOTS, "measurements": [measured]}
    more = {"device": device, "md": dynamics, "report": out / run.REPORT, "seconds": round(seconds, 1)}
    output.finish({**run.summary(trained), **more})


def measure_forces(field: "ForceField", frame: "Frame") -> dict[str, Any]:
    """How far forces of one frame are off the exact ones where a fake device measured the matrices."""
    import numpy as np

    from qiskit_qff.evaluators.backends import Settings, build_evaluator
    from qiskit_qff.evaluators.measured_operator import Provenance
    from qiskit_qff.model.calibration import calibrate, calibration_errors, rms_std_errors

    evaluators = partial(build_evaluator, Settings(BACKEND, SHOTS, MITIGATION), rng=np.random.default_rng(0))
    noisy, cost = calibrate(field, evaluators, provenance=Provenance(BACKEND, SHOTS, MITIGATION))
    return {
        "mitigation": MITIGATION,
        "force_mae_mev_per_ang": 1e3 * float(np.abs(noisy.predict(frame).forces - field.predict(frame).forces).mean()),
        **rms_std_errors(calibration_errors(noisy, [frame]), [frame]),
        **asdict(cost),
    }


def _dynamics(field: "ForceField", start: "Frame", directory: Path, output: Output, *, steps: int) -> dict[str, Any]:
    """Constant-energy dynamics."""
    from qiskit_qff.report.dynamics import SUMMARY
    from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics

    settings = MDSettings(temperature_k=300.0, steps=steps, timestep_fs=0.5, ensemble="nve", interval=5, seed=0)
    with output.progress("molecular dynamics"):
        done = run_dynamics(start.to_atoms(), field.within_walls(), settings, directory)
    told = {name: value for name, value in asdict(done).items() if name not in {"trajectory", "log"}}
    (directory / SUMMARY).write_text(json_text(told | {"settings": asdict(settings)}), encoding="utf-8")
    output.say(
        f"{done.steps} steps of 0.5 fs at constant energy: {done.temperature_mean_k:.0f} ± "
        f"{done.temperature_std_k:.0f} K, drift {done.drift_mev_per_atom_per_ps:+.3f} meV/atom/ps, "
        f"{done.ms_per_step:.1f} ms/step"
    )
    return told
