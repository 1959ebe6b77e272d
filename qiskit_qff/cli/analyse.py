"""``qff analyse``: structure, transport and vibrations of trajectories, and the activation energy over several."""

import json as jsonlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption
from qiskit_qff.cli.output import Output, check_output_directory, plain, staged_directory
from qiskit_qff.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qiskit_qff.simulation.analysis import AnalysisSettings, RadialDistribution

OWN_FILES = (
    *("analysis.json", "analysis.html", "report.html", "arrhenius.png", "rdf.csv", "rdf_reference.csv", "rdf.png"),
    *("coordination.csv", "msd.csv", "msd.png", "vdos.csv", "vibrations.png", "sites.cube", "sites.png"),
)

EXTRAPOLATED_K = 300.0
"""Temperature in K that diffusivities at several temperatures are extrapolated to."""


def analyse(
    trajectories: Annotated[
        list[Path],
        typer.Argument(metavar="TRAJ...", help="Trajectories; several give an activation energy."),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write to; default 'analysis' beside TRAJ.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Trajectory or data set to compare RDFs with.")
    ] = None,
    element: Annotated[str, typer.Option("--element", help="Mobile element.")] = "Li",
    skip: Annotated[float, typer.Option("--skip", min=0.0, help="Equilibration time to skip, in ps.")] = 0.0,
    frame_time: Annotated[
        float | None, typer.Option("--frame-time", help="Time between frames in fs, if TRAJ does not contain it.")
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", help="Temperature in K, if TRAJ has none; once for each TRAJ, in order."),
    ] = None,
    charge: Annotated[float, typer.Option("--charge", help="Charge of a mobile ion, for the conductivity.")] = 1.0,
    fit_from: Annotated[
        float | None,
        typer.Option(
            "--fit-from", min=0.0, help="Shortest lag time of the fit of D, in ps; default: 5 % of the trajectory."
        ),
    ] = None,
    r_max: Annotated[float, typer.Option("--r-max", min=0.1, help="Largest distance of the RDFs in Å.")] = 6.0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Analyse trajectories: structure, diffusivity, vibrations, ion density and bonds."""
    from qiskit_qff.simulation.analysis import AnalysisSettings, radial_distribution
    from qiskit_qff.simulation.trajectory import read_trajectory

    output = Output(as_json=json)
    if temperature and len(temperature) != len(trajectories):
        raise ConfigError(
            f"--temperature: expected once for each of {len(trajectories)} trajectories, received {len(temperature)}."
        )
    target = out if out is not None else trajectories[0].parent / "analysis"
    names = run_names(trajectories)
    check_output_directory(target, owned=(*OWN_FILES, *names), force=force)
    settings = AnalysisSettings(element=element, r_max=r_max, fit_from_ps=fit_from, charge=charge)
    expected = None if reference is None else radial_distribution(read_trajectory(reference), r_max=r_max)
    with staged_directory(target) as staging:
        results = []
        for index, (name, path) in enumerate(zip(names, trajectories, strict=True)):
            inside = "" if len(trajectories) == 1 else name
            (staging / inside).mkdir(exist_ok=True)
            if inside:
                output.say(f"{name}:")
            chosen = replace(settings, temperature_k=temperature[index] if temperature else None)
            numbers = _analyse_one(
                path, chosen, expected, staging / inside, output, frame_time_fs=frame_time, skip_ps=skip
            )
            results.append({"name": name, "trajectory": path, **numbers})
        result: dict[str, Any] = results[0]
        if len(results) > 1:
            line, cautions = _arrhenius(results, output)
            told = [f"{one['name']}: {caution}" for one in results for caution in one["cautions"]]
            result = {"trajectories": results, "arrhenius": line, "cautions": [*told, *cautions]}
        _write_page(staging, result)
        written = [path.relative_to(staging) for path in sorted(staging.rglob("*.png"))]
        result |= {"plots": [target / path for path in written], "report": target / "analysis.html"}
        (staging / "analysis.json").write_text(jsonlib.dumps(plain(result), indent=1) + "\n", encoding="utf-8")
    output.say(f"written      {target}")
    output.finish(result)


def run_names(trajectories: Sequence[Path]) -> list[str]:
    """A short name for each trajectory: that of its directory for those of ``qff md``, else of its file."""
    names: list[str] = []
    for path in trajectories:
        stem = path.name.split(".")[0]
        name = path.absolute().parent.name if stem == "trajectory" else stem
        count = sum(other == name or other.startswith(f"{name}-") for other in names)
        names.append(f"{name}-{count + 1}" if count else name)
    return names


def _analyse_one(
    path: Path,
    settings: "AnalysisSettings",
    reference: "RadialDistribution | None",
    directory: Path,
    output: Output,
    *,
    frame_time_fs: float | None,
    skip_ps: float,
) -> dict[str, Any]:
    """One trajectory: its numbers, which are said, and its tables, which are written."""
    import numpy as np
    from ase.io.cube import write_cube

    from qiskit_qff.simulation.analysis import ALL, RadialDistribution, radial_distribution_errors
    from qiskit_qff.simulation.analysis import analyse as analyse_trajectory
    from qiskit_qff.simulation.trajectory import read_trajectory

    with output.progress(f"reading {path.name}") as advance:
        trajectory = read_trajectory(path, frame_time_fs=frame_time_fs, skip_ps=skip_ps)
        found = analyse_trajectory(trajectory, settings, progress=lambda stage: advance(stage, 1.0, 1.0))
    curves, told = dict(found.curves), dict(found.told)
    cautions = list(found.told["cautions"])
    if reference is not None and "rdf" in curves:
        (_, r), *pairs = curves["rdf"].items()
        radial = RadialDistribution(r, dict(pairs), {})
        curves["rdf_reference"] = {"r_ang": reference.r, **reference.curves}
        errors = radial_distribution_errors(radial, reference)
        told |= {"rdf_mae": errors.get(ALL), "rdf_mae_partial": {n: e for n, e in errors.items() if n != ALL}}
        alone = sorted({name for one in (radial, reference) for name in one.curves} - set(errors))
        if alone:
            cautions.append(f"pairs in only one of trajectory and reference, not compared: {', '.join(alone)}")
    told |= {"cautions": cautions, "sites": None}
    for name, columns in curves.items():
        header = ",".join(columns)
        values = np.column_stack(list(columns.values()))
        np.savetxt(directory / f"{name}.csv", values, fmt="%.8g", delimiter=",", header=header, comments="")
    if found.density is not None:
        with (directory / "sites.cube").open("w", encoding="utf-8") as stream:
            write_cube(  # type: ignore[no-untyped-call]
                stream,
                found.density.framework,
                data=found.density.values,
                comment=f"{settings.element} density in 1/Angstrom^3",
            )
        told["sites"] = {"cube": "sites.cube"}
    _tell(told, output)
    return told


def _tell(told: Mapping[str, Any], output: Output) -> None:
    """Say the numbers of one trajectory, and every caution."""
    from qiskit_qff.report.dynamics import analysis_facts

    output.table("numbers", ("quantity", "value"), analysis_facts(told))
    if shells := told["coordination"]:
        rows = [(name, shell["neighbors"], shell["peak_ang"], shell["end_ang"]) for name, shell in shells.items()]
        output.table("coordination, first shell", ("around-of", "number", "peak (Å)", "end (Å)"), rows)
    if "rdf_mae" in told:
        errors = {"all": told["rdf_mae"], **told["rdf_mae_partial"]}
        output.table("mean absolute difference of g(r)", ("pair", "MAE"), list(errors.items()))
    for caution in told["cautions"]:
        output.say(f"caution      {caution}")


def _arrhenius(results: Sequence[Mapping[str, Any]], output: Output) -> tuple[dict[str, Any] | None, list[str]]:
    """Activation energy and extrapolated diffusivity, from the trajectories that show diffusion; and cautions."""
    from qiskit_qff.simulation.transport import fit_arrhenius

    points, cautions = [], []
    for one in results:
        value, temperature = one["diffusivity_cm2_per_s"], one["temperature_k"]
        if value is None or temperature is None:
            cautions.append(
                f"{one['name']} is left out of the Arrhenius line: no diffusion, or no temperature (--temperature)"
            )
        else:
            points.append((temperature, value, one["diffusivity_error_cm2_per_s"]))
    line = None
    try:
        fitted = fit_arrhenius(*([point[column] for point in points] for column in range(3)))
    except DataError as error:
        cautions.append(f"no activation energy: {error}")
    else:
        value, spread = fitted.diffusivity(EXTRAPOLATED_K)
        low, high = value * math.exp(-spread), value * math.exp(spread)
        output.say(f"activation   Ea = {fitted.activation_ev:.3f} ± {fitted.activation_error_ev:.3f} eV")
        output.say(f"             D at {EXTRAPOLATED_K:g} K = {value:.2g} cm²/s, between {low:.2g} and {high:.2g}")
        line = {
            "activation_ev": fitted.activation_ev,
            "activation_error_ev": fitted.activation_error_ev,
            "prefactor_cm2_per_s": fitted.prefactor_cm2_per_s,
            "reduced_chi_square": fitted.chi_square,
            "n_temperatures": len(points),
            "points": points,
            "extrapolated_k": EXTRAPOLATED_K,
            "extrapolated_cm2_per_s": value,
            "extrapolated_log_error": spread,
            "extrapolated_interval_cm2_per_s": (low, high),
        }
    for caution in cautions:
        output.say(f"caution      {caution}")
    return line, cautions


def _write_page(directory: Path, result: Mapping[str, Any]) -> None:
    """All numbers and figures as one page, and each figure as a file."""
    from qiskit_qff.report.directory import read_run
    from qiskit_qff.report.figures import save
    from qiskit_qff.report.page import write_page

    (directory / "analysis.json").write_text(jsonlib.dumps(plain(result)), encoding="utf-8")
    parts = read_run(directory)
    for section in parts[0].sections:
        inside = section.title if (directory / section.title).is_dir() else ""
        for panel in section.panels:
            save(panel.figure, directory / inside / f"{panel.name}.png")
    write_page({"": parts}, directory / "analysis.html")
