"""``qff demo``: the main job on the shipped data, from ab initio frames to molecular dynamics and a report."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption, OutOption, SeedOption
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory

if TYPE_CHECKING:
    from qiskit_qff.model.config import TrainConfig
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.report.html import Panel, Section
    from qiskit_qff.structures.frame import Frame
    from qiskit_qff.training.pipeline import TrainedModel

ELEMENT = 3  # Li: the ion that moves, and a small circuit
SHOTS = 4096
MD_DIRECTORY = "md"


def demo(
    *,
    out: OutOption = Path("qff-demo"),
    fast: Annotated[bool, typer.Option("--fast", help="A shorter form: one start, fewer steps.")] = False,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train, test, measure a gradient and forces, and run dynamics on the shipped Li-MOF-5 data."""
    from qiskit_qff.cli import training_run as run
    from qiskit_qff.cli.demo_on_device import forces_on_device
    from qiskit_qff.report.device_run import DEVICE, write_device_forces
    from qiskit_qff.report.html import write_page
    from qiskit_qff.training.pipeline import train

    output = Output(as_json=json)
    begin = time.perf_counter()
    check_output_directory(out, owned=(*run.OWN_FILES, MD_DIRECTORY, DEVICE), force=force)
    output.say("Li4@MOF-5: 110 atoms, 5 elements, PBE-D3 energies and forces (shipped with the package)")
    with output.progress("training") as advance:
        trained = train("shipped", _config(seed=seed, fast=fast), progress=advance)
    field = trained.force_field
    run.tell(trained, output)
    start = trained.frames[0]
    gradients = _compare_gradients(field, start, output, seed=seed)
    on_device = forces_on_device(trained, output, seed=seed)
    with staged_directory(out) as staging:
        dynamics, section = _short_dynamics(field, start, staging / MD_DIRECTORY, output, steps=200 if fast else 600)
        run.write_results(trained, staging)
        write_page(run.training_page(trained, more=(on_device.section, section)), staging / run.REPORT)
        write_device_forces(staging, on_device.measured, text=on_device.text)
    output.say(f"report: {out / run.REPORT} (model, errors and trajectory beside it)")
    seconds = time.perf_counter() - begin
    output.say(f"{seconds:.0f} s in all")
    result = _result(trained, gradients, dynamics) | {"device": on_device.result}
    output.finish(result | {"report": out / "report.html", "seconds": round(seconds, 1)})


def _config(*, seed: int, fast: bool) -> "TrainConfig":
    """The defaults of ``qff train shipped``; in the short form one start and fewer iterations."""
    from qiskit_qff.model.config import OptimizerConfig, TrainConfig

    short = OptimizerConfig(restarts=1, max_iterations=50)
    return TrainConfig(seed=seed, optimizer=short if fast else OptimizerConfig())


def _compare_gradients(field: "ForceField", frame: "Frame", output: Output, *, seed: int) -> dict[str, float]:
    """dE/dθ of one element's circuit: exact, on StatevectorEstimator, and on Aer with shots."""
    import numpy as np
    from qiskit.primitives import StatevectorEstimator
    from qiskit_aer.primitives import EstimatorV2

    from qiskit_qff.circuit.compiled import readout_jacobian
    from qiskit_qff.circuit.program import BoundProgram
    from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
    from qiskit_qff.evaluators.strategies.density import density_matrix, theta_gradient

    bound = BoundProgram(field.programs[ELEMENT], field.theta[ELEMENT], field.weights[ELEMENT])
    summed = density_matrix(field.amplitudes(frame)[ELEMENT])
    exact = np.einsum("pkij,k,ij->p", readout_jacobian(bound.program, bound.theta), bound.weights, summed)
    state = theta_gradient(PrimitiveEvaluator(StatevectorEstimator()), bound, summed)
    aer = PrimitiveEvaluator(EstimatorV2(options={"backend_options": {"seed_simulator": seed}}), shots=SHOTS)
    sampled = theta_gradient(aer, bound, summed)
    scale = float(np.abs(exact).max())
    difference = float(np.abs(state.theta - exact).max())
    noise = float(np.sqrt(np.mean((sampled.theta - exact) ** 2)))
    expected = float(np.sqrt(np.mean(sampled.theta_std_errors**2)))
    output.say(
        f"dE/dθ of the Li circuit ({len(exact)} angles, largest {scale:.3g} eV): StatevectorEstimator differs by "
        f"{difference:.1e} eV, Aer with {SHOTS} shots by {noise:.2g} eV rms "
        f"(expected {expected:.2g}; {sampled.cost.circuits} circuits)"
    )
    return {
        "largest_ev": scale,
        "statevector_difference_ev": difference,
        "aer_rms_difference_ev": noise,
        "aer_expected_rms_ev": expected,
        "aer_circuits": sampled.cost.circuits,
        "aer_shots": sampled.cost.shots,
    }


def _short_dynamics(
    field: "ForceField", start: "Frame", directory: Path, output: Output, *, steps: int
) -> tuple[dict[str, Any], "Section"]:
    """Constant-energy dynamics, and its section of the report; a run that leaves the data's realm is told as such."""
    from dataclasses import asdict

    from qiskit_qff.errors import SimulationError
    from qiskit_qff.model.fence import within_walls
    from qiskit_qff.report.html import Section
    from qiskit_qff.simulation.dynamics import run_dynamics
    from qiskit_qff.simulation.recording import LOG, read_log
    from qiskit_qff.simulation.settings import MDSettings

    settings = MDSettings(temperature_k=300.0, steps=steps, timestep_fs=0.5, ensemble="nve", interval=5)
    try:
        with output.progress("molecular dynamics") as advance:
            summary = run_dynamics(
                start.to_atoms(),
                within_walls(field),
                settings,
                directory,
                progress=lambda words, done, total: advance("", done, total, detail=words),
            )
    except SimulationError as error:
        text = f"Dynamics stopped early: it left what the training frames cover. {error}"
        result: dict[str, Any] = {"completed": False, "error": str(error)}
        drift = float("nan")
    else:
        drift = summary.drift_mev_per_atom_per_ps
        text = (
            f"{summary.steps} steps of 0.5 fs at constant energy, begun with 300 K velocities: "
            f"{summary.temperature_mean_k:.0f} ± {summary.temperature_std_k:.0f} K, drift "
            f"{drift:+.3f} meV/atom/ps, {summary.ms_per_step:.1f} ms/step."
        )
        result = {name: value for name, value in asdict(summary).items() if name not in {"trajectory", "log"}}
    output.say(text)
    panels = _dynamics_panels(read_log(directory / LOG), n_atoms=start.n_atoms, drift=drift, text=text)
    return result, Section(title="Molecular dynamics", text=(text,), panels=panels)


def _dynamics_panels(log: Any, *, n_atoms: int, drift: float, text: str) -> "tuple[Panel, ...]":
    """Temperature and energies along the run."""
    from qiskit_qff.report.html import Panel
    from qiskit_qff.report.md_figures import energy_figure, temperature_figure

    energy = energy_figure(log, n_atoms=n_atoms, drift_mev_per_atom_per_ps=drift)
    return (
        Panel("md_temperature", "Temperature along the run.", text, temperature_figure(log)),
        Panel("md_energy", "Potential and kinetic energy, and their sum, which is conserved.", text, energy),
    )


def _result(trained: "TrainedModel", gradients: dict[str, float], dynamics: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` prints."""
    from qiskit_qff.cli.training_run import summary

    return {**summary(trained), "gradient": gradients, "md": dynamics}
