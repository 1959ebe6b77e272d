"""``qff analyse``: structure and transport in trajectories, and the activation energy over several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption
from qiskit_qff.cli.output import Output, check_output_directory, json_text, staged_directory
from qiskit_qff.errors import ConfigError

OWN_FILES = (
    *("analysis.json", "analysis.html", "report.html", "arrhenius.png", "rdf.csv", "rdf_reference.csv", "rdf.png"),
    *("coordination.csv", "msd.csv", "msd.png", "sites.cube", "sites.png"),
)


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
    r_max: Annotated[float, typer.Option("--r-max", min=0.1, help="Largest distance of the RDFs in Å.")] = 6.0,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Analyse trajectories: structure, diffusivity, ion density and bonds."""
    from qiskit_qff.report.page import numbered
    from qiskit_qff.simulation.analysis import analyse as analyse_trajectory
    from qiskit_qff.simulation.analysis import radial_distribution
    from qiskit_qff.simulation.trajectory import read_trajectory

    output = Output(as_json=json)
    if temperature and len(temperature) != len(trajectories):
        raise ConfigError(
            f"--temperature: expected once for each of {len(trajectories)} trajectories, received {len(temperature)}."
        )
    target = out if out is not None else trajectories[0].parent / "analysis"
    # The directory's name for trajectories of qff md, which are all called the same.
    stems = [path.name.split(".")[0] for path in trajectories]
    names = numbered([
        path.absolute().parent.name if stem == "trajectory" else stem
        for path, stem in zip(trajectories, stems, strict=True)
    ])  # fmt: skip
    check_output_directory(target, owned=(*OWN_FILES, *names), force=force)
    expected = None if reference is None else radial_distribution(read_trajectory(reference), r_max=r_max)[0]
    with staged_directory(target) as staging:
        results: list[dict[str, Any]] = []
        for index, (name, path) in enumerate(zip(names, trajectories, strict=True)):
            inside = staging if len(trajectories) == 1 else staging / name
            inside.mkdir(exist_ok=True)
            if inside != staging:
                output.say(f"{name}:")
            with output.progress(f"reading {path.name}") as advance:
                found = analyse_trajectory(
                    read_trajectory(path, frame_time_fs=frame_time, skip_ps=skip),
                    element,
                    r_max=r_max,
                    temperature_k=temperature[index] if temperature else None,
                    charge=charge,
                    reference=expected,
                    progress=lambda stage: advance(stage, 1.0, 1.0),
                )
            found.write(inside)
            _tell(found.told, output)
            results.append({"name": name, "trajectory": path, **found.told})
        result = results[0] if len(results) == 1 else _several(results, output)
        result |= {"plots": _write_page(staging, target, result), "report": target / "analysis.html"}
        (staging / "analysis.json").write_text(json_text(result), encoding="utf-8")
    output.say(f"written      {target}")
    output.finish(result)


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


def _several(results: list[dict[str, Any]], output: Output) -> dict[str, Any]:
    """All trajectories with the activation energy, which is said."""
    from qiskit_qff.simulation.transport import activation

    line, cautions = activation(results)
    if line is not None:
        low, high = line["extrapolated_interval_cm2_per_s"]
        output.say(f"activation   Ea = {line['activation_ev']:.3f} ± {line['activation_error_ev']:.3f} eV")
        output.say(
            f"             D at {line['extrapolated_k']:g} K = {line['extrapolated_cm2_per_s']:.2g} cm²/s, between "
            f"{low:.2g} and {high:.2g}"
        )
    for caution in cautions:
        output.say(f"caution      {caution}")
    own = [f"{one['name']}: {caution}" for one in results for caution in one["cautions"]]
    return {"trajectories": results, "arrhenius": line, "cautions": [*own, *cautions]}


def _write_page(directory: Path, target: Path, result: Mapping[str, Any]) -> list[Path]:
    """All numbers and figures as one page, and each figure as a file; returns where the figures will be."""
    from qiskit_qff.report.directory import read_run
    from qiskit_qff.report.figures import save
    from qiskit_qff.report.page import write_page

    (directory / "analysis.json").write_text(json_text(result), encoding="utf-8")
    parts = read_run(directory)
    for section in parts[0].sections:
        inside = section.title if (directory / section.title).is_dir() else ""
        for panel in section.panels:
            save(panel.figure, directory / inside / f"{panel.name}.png")
    write_page({"": parts}, directory / "analysis.html")
    return [target / path.relative_to(directory) for path in sorted(directory.rglob("*.png"))]
