"""A directory of ``qff md`` on the page: the log, what the trajectory tells, and a structure of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.bounded import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.report.analysis_page import ANALYSIS, analysis_section, analysis_sections
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.report.md_figures import energy_figure, pressure_figure, temperature_figure
from qiskit_qff.report.run_part import Progress, RunPart
from qiskit_qff.report.structure_scene import structure_scene
from qiskit_qff.simulation.analysis import AnalysisSettings, analyse
from qiskit_qff.simulation.recording import LOG, TRAJECTORY, read_log
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import iter_frames

SUMMARY = "md.json"


def is_md_run(directory: Path) -> bool:
    """Whether ``qff md`` wrote this directory."""
    return (directory / LOG).is_file()


def read_md_run(directory: Path, *, progress: Progress, element: str = "Li") -> RunPart:
    """Log, structure, transport.

    Args:
        directory: what ``qff md`` wrote.
        progress: told how much of the trajectory was read.
        element: the mobile element, where the trajectory is analysed here.

    Raises:
        DataError: if a file is damaged.
    """
    log = read_log(directory / LOG)
    told = _summary(directory / SUMMARY)
    if not len(log["step"]):
        raise DataError(f"{directory / LOG}: no line yet. Wait until the run has written one.")
    path = next((directory / n for n in (TRAJECTORY, f"{TRAJECTORY}.gz") if (directory / n).is_file()), None)
    missing: tuple[str, ...] = ()
    structure: Frame | None = None
    analysed: tuple[Section, ...] = ()
    if (directory / "analysis" / ANALYSIS).is_file():
        analysed = analysis_sections(directory / "analysis")
        structure = None if path is None else next(iter_frames(path), None)
    elif path is not None:
        structure, analysed = _analyse(path, element=element, progress=progress)
    else:
        missing = ("No structure, radial distributions and displacements: the trajectory is gone.",)
    n_atoms = None if structure is None else structure.n_atoms
    scene = None if structure is None else structure_scene(structure, caption=_which(structure))
    section = Section(
        title="Molecular dynamics",
        tables=(Table("The run", ("quantity", "value"), _facts(log, told, n_atoms)),),
        panels=_panels(log, told, n_atoms),
        scenes=() if scene is None else (scene,),
    )
    return RunPart(
        kind="molecular dynamics",
        title="Molecular dynamics",
        sections=(section, *analysed),
        lead=missing,
        missing=missing,
        footer=_seed(told),
    )


def _summary(path: Path) -> Mapping[str, Any]:
    """What the run said at its end; nothing while it is running.

    Raises:
        DataError: if the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        return dict(read_json(path))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). Delete it, or run qff md again.") from error


def _analyse(path: Path, *, element: str, progress: Progress) -> tuple[Frame, tuple[Section, ...]]:
    """Read a trajectory; gives its last structure, atoms inside the cell, and the section of what it tells."""
    task = f"reading {path.name}"
    trajectory = read_trajectory(path, progress=lambda done, total: progress(task, done / total))
    found = analyse(trajectory, AnalysisSettings(element=element))
    section = analysis_section("Structure and transport", found)
    positions, cell = trajectory.positions[-1], trajectory.cells[-1]
    if trajectory.pbc.all():
        positions = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    return Frame(trajectory.numbers, positions, cell, trajectory.pbc, index=trajectory.n_frames - 1), (section,)


def _which(structure: Frame) -> str:
    """Which structure is shown."""
    return "The first structure of the trajectory." if structure.index == 0 else "The last structure of the trajectory."


def _drift(log: Mapping[str, FloatArray], told: Mapping[str, Any], n_atoms: int) -> float:
    """Slope of the conserved quantity in meV/atom/ps; NaN for too short a log."""
    if (known := told.get("drift_mev_per_atom_per_ps")) is not None:
        return float(known)
    if len(log["step"]) < 3 or not np.isfinite(log["conserved_ev"]).all():
        return math.nan
    return float(np.polyfit(log["time_fs"] / 1e3, log["conserved_ev"], 1)[0]) * 1e3 / n_atoms


def _facts(log: Mapping[str, FloatArray], told: Mapping[str, Any], n_atoms: int | None) -> tuple[tuple[str, str], ...]:
    """Numbers with units."""
    rows = [
        ("steps", f"{log['step'][-1]:.0f}"),
        ("time", f"{log['time_fs'][-1] / 1e3:.4g} ps"),
        ("temperature", f"{log['temperature_k'].mean():.1f} ± {log['temperature_k'].std():.1f} K"),
    ]
    if n_atoms is not None:
        rows.insert(0, ("atoms", str(n_atoms)))
        rows.append(("drift of the conserved quantity", f"{_drift(log, told, n_atoms):+.2g} meV/atom/ps"))
    if np.isfinite(log["pressure_gpa"]).all():
        rows.append(("pressure", f"{log['pressure_gpa'].mean():.3g} GPa"))
    for name, key, unit in (("ensemble", "ensemble", ""), ("speed", "ms_per_step", " ms/step")):
        if (value := told.get(key)) is not None:
            rows.append((name, f"{value:.3g}{unit}" if isinstance(value, float) else f"{value}{unit}"))
    settings = told.get("settings") or {}
    words = {"timestep_fs": "time step (fs)", "seed": "seed"}
    rows += [(words[name], f"{settings[name]:g}") for name in words if name in settings]
    if (graded := told.get("extrapolation")) is not None:
        rows.append(("structures outside the training data", f"{graded['outside']} of {graded['checks']} graded"))
    if not told:
        rows.append(("end", f"no {SUMMARY}: the run has not ended, or was stopped"))
    return tuple(rows)


def _panels(log: Mapping[str, FloatArray], told: Mapping[str, Any], n_atoms: int | None) -> tuple[Panel, ...]:
    """Temperature, energies and pressure along the run."""
    temperatures = log["temperature_k"]
    panels = [
        Panel(
            "md_temperature",
            "Temperature along the run.",
            f"Temperature over time, mean {temperatures.mean():.0f} K, standard deviation {temperatures.std():.0f} K.",
            temperature_figure(log, target_k=_target(log, told)),
        )
    ]
    if n_atoms is not None:
        drift = _drift(log, told, n_atoms)
        panels.append(
            Panel(
                "md_energy",
                "Potential and kinetic energy, and the quantity that the ensemble conserves.",
                f"Energies over time; the conserved quantity drifts by {drift:+.2g} meV/atom/ps.",
                energy_figure(log, n_atoms=n_atoms, drift_mev_per_atom_per_ps=drift),
            )
        )
    if np.isfinite(log["pressure_gpa"]).all():
        mean = f"mean {log['pressure_gpa'].mean():.3g} GPa"
        panels.append(
            Panel("md_pressure", "Pressure along the run.", f"Pressure over time, {mean}.", pressure_figure(log))
        )
    return tuple(panels)


def _target(log: Mapping[str, FloatArray], told: Mapping[str, Any]) -> FloatArray | None:
    """Temperature of the thermostat at each line; None at constant energy, or where the run did not say."""
    settings = told.get("settings")
    if not settings or settings.get("ensemble") == "nve":
        return None
    known = MDSettings(
        temperature_k=settings["temperature_k"],
        steps=settings.get("ramp_steps") or settings["steps"],  # of runs of older versions
        timestep_fs=settings["timestep_fs"],
        to_temperature_k=settings.get("to_temperature_k"),
    )
    return np.array([known.temperature_at(int(step)) for step in log["step"]])


def _seed(told: Mapping[str, Any]) -> str:
    """The seed, if the run said."""
    settings = told.get("settings") or {}
    return f"Dynamics: seed {settings['seed']}." if "seed" in settings else ""
