"""What ``qff md`` says and writes at the end, and what ``--dry-run`` says instead."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.output import Output
from qiskit_qff.durable import write_atomically

if TYPE_CHECKING:
    from qiskit_qff.simulation.calculator import Potential
    from qiskit_qff.simulation.dynamics import MDSummary
    from qiskit_qff.simulation.extrapolation import ExtrapolationCounts
    from qiskit_qff.simulation.held_bonds import HeldBonds
    from qiskit_qff.simulation.settings import MDSettings
    from qiskit_qff.structures.frame import Frame

SUMMARY = "md.json"
FIGURES = ("temperature.png", "energy.png", "pressure.png")
_TIMED = 3
"""Force evaluations that the estimate of a step's time is the median of."""


def finish(
    summary: "MDSummary",
    calibration: dict[str, Any],
    settings: "MDSettings",
    out: Path,
    output: Output,
    *,
    n_atoms: int,
) -> None:
    """Draw the figures, write the summary and tell the result."""
    import json

    from qiskit_qff.cli.output import plain

    plots = _draw(summary, settings, out, n_atoms)
    told = {name: value for name, value in asdict(summary).items() if name != "completed"}
    result = told | calibration | {"plots": plots, "settings": asdict(settings)}
    write_atomically(out / SUMMARY, json.dumps(plain(result), indent=1) + "\n")
    output.say(f"{summary.steps} steps, {summary.time_ps:g} ps of {summary.ensemble} for {n_atoms} atoms")
    output.say(f"temperature  {summary.temperature_mean_k:.1f} ± {summary.temperature_std_k:.1f} K")
    if math.isfinite(summary.drift_mev_per_atom_per_ps):
        output.say(f"drift        {summary.drift_mev_per_atom_per_ps:+.3g} meV/atom/ps")
    if math.isfinite(summary.pressure_mean_gpa):
        output.say(f"pressure     {summary.pressure_mean_gpa:.3g} GPa")
    if math.isfinite(summary.ms_per_step):
        output.say(f"speed        {summary.ms_per_step:.2f} ms/step")
    if summary.extrapolation is not None:
        _tell_extrapolation(summary.extrapolation, output)
    output.say(f"written      {', '.join(str(path) for path in (summary.trajectory, summary.log, *plots))}")
    output.finish(result)


def tell_held(held: "HeldBonds", trajectory: Path, output: Output) -> dict[str, Any]:
    """Say how much the walls on bonds had to do: what the model would have done without them is not known otherwise.

    Args:
        held: the force field of the run.
        trajectory: the run, restarts included.
        output: where to say it.
    """
    import numpy as np

    from qiskit_qff.simulation.trajectory import stream_trajectory

    frames = stream_trajectory(trajectory).snapshots
    walls = np.array([held.walls(frame.positions, frame.cell) for frame in frames])
    share, largest = float((walls > 0.0).mean()), float(walls.max())
    words = f"up to {largest:.2f} eV" if share else "so nothing was changed by them"
    output.say(f"held bonds   their walls were felt in {100 * share:.1f} % of the frames, {words}")
    return {"n_bonds": sum(held.counts.values()), "share_felt": share, "largest_ev": largest}


def _tell_extrapolation(counts: "ExtrapolationCounts", output: Output) -> None:
    """In how many structures an atom was outside the training data."""
    kept = f", {counts.saved} of them kept" if counts.saved else ""
    output.say(f"extrapolation  {counts.outside} of {counts.checks} structures graded outside the training data{kept}")
    output.say(
        f"               largest grade {counts.largest_grade:.2f}, atom {counts.largest_grade_atom} at step "
        f"{counts.largest_grade_step}"
    )


def _draw(summary: "MDSummary", settings: "MDSettings", out: Path, n_atoms: int) -> list[Path]:
    """Write the figures; gives their paths."""
    import numpy as np

    from qiskit_qff.report.figures import save
    from qiskit_qff.report.md_figures import energy_figure, pressure_figure, temperature_figure
    from qiskit_qff.simulation.recording import read_log

    log = read_log(summary.log)
    target = None
    if settings.ensemble != "nve":
        target = np.array([settings.temperature_at(int(step)) for step in log["step"]])
    figures = [
        temperature_figure(log, target_k=target),
        energy_figure(log, n_atoms=n_atoms, drift_mev_per_atom_per_ps=summary.drift_mev_per_atom_per_ps),
    ]
    if math.isfinite(summary.pressure_mean_gpa):
        figures.append(pressure_figure(log))
    paths = [out / name for name in FIGURES[: len(figures)]]
    for figure, path in zip(figures, paths, strict=True):
        save(figure, path)
    return paths


def rehearse(
    potential: "Potential", start: "Frame", settings: "MDSettings", out: Path, output: Output, *, repeat: int
) -> None:
    """Say what would be simulated and how long it would take, from the forces of the first structure; write nothing.

    Args:
        potential: the force field.
        start: the structure, before it is repeated.
        settings: the run.
        out: where it would be written.
        output: where to say it.
        repeat: repeats along each vector.

    Raises:
        DataError: if the structure does not fit the model.
    """
    from qiskit_qff.simulation.calculator import QFFCalculator
    from qiskit_qff.simulation.checkpoint import read_checkpoint
    from qiskit_qff.structures.species import species_index

    species_index(start.numbers, potential.species, where=start.where)
    atoms = start.to_atoms() * (repeat, repeat, repeat)
    atoms.calc = QFFCalculator(potential)
    largest = float(abs(atoms.get_forces()).max())
    seconds = sorted(_seconds_of_forces(atoms) for _ in range(_TIMED))[_TIMED // 2]
    checkpoint = out / "checkpoint.npz"
    done = read_checkpoint(checkpoint).step if checkpoint.exists() else 0
    left = max(settings.steps - done, 0)
    n_frames = settings.steps // settings.interval + 1
    output.say(f"would run    {left} steps of {settings.timestep_fs:g} fs of {settings.ensemble}, {len(atoms)} atoms")
    if done:
        output.say(f"             going on from step {done} of the run in {out}")
    output.say(f"forces       largest component of the first structure {largest:.3g} eV/Å")
    output.say(f"time         {1e3 * seconds:.2f} ms a step here, about {_duration(left * seconds)} in all")
    output.say(f"trajectory   {n_frames} frames; nothing was written")
    output.finish(
        {
            "steps": left,
            "done": done,
            "n_atoms": len(atoms),
            "time_ps": 1e-3 * settings.steps * settings.timestep_fs,
            "n_frames": n_frames,
            "largest_force_ev_per_ang": largest,
            "ms_per_step": 1e3 * seconds,
            "seconds": left * seconds,
            "settings": asdict(settings),
        }
    )


def _seconds_of_forces(atoms: Any) -> float:
    """Wall time of energies and forces after a small move of all atoms."""
    atoms.positions += 1e-6
    begin = time.perf_counter()
    atoms.get_forces()
    return time.perf_counter() - begin


def _duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for name, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.3g} s"
