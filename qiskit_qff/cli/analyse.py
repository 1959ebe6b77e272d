"""``qff analyse``: radial distributions, displacements, diffusivity and bonds of a trajectory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import ForceOption, JsonOption
from qiskit_qff.cli.output import Output, plain
from qiskit_qff.cli.output_directory import check_output_directory, staged_directory
from qiskit_qff.errors import DataError

if TYPE_CHECKING:
    from qiskit_qff.simulation.diffusion import Diffusivity
    from qiskit_qff.simulation.radial_distribution import RadialDistribution
    from qiskit_qff.simulation.trajectory import Trajectory

#: Below this mean squared displacement (2 Å, a short hop) a slope says nothing about diffusion.
CAGED_ANG2 = 4.0
OWN_FILES = ("analysis.json", "rdf.csv", "rdf.png", "msd.csv", "msd.png")


def analyse(
    trajectory: Annotated[Path, typer.Argument(metavar="TRAJ", help="Trajectory of qff md, or any other.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write to; default 'analysis' beside TRAJ.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Trajectory or data set whose RDFs to compare with.")
    ] = None,
    element: Annotated[str, typer.Option("--element", help="Element of the diffusivity.")] = "Li",
    skip: Annotated[float, typer.Option("--skip", min=0.0, help="Equilibration to leave out, in ps.")] = 0.0,
    frame_time: Annotated[
        float | None, typer.Option("--frame-time", help="Time between frames in fs, where TRAJ does not say.")
    ] = None,
    r_max: Annotated[float, typer.Option("--r-max", min=0.1, help="Reach of the RDFs in Å.")] = 6.0,
    blocks: Annotated[int, typer.Option("--blocks", min=2, help="Blocks of the diffusivity's error bar.")] = 5,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Read radial distributions, displacements, diffusivity and bonds off a trajectory."""
    from qiskit_qff.simulation.radial_distribution import radial_distribution
    from qiskit_qff.simulation.trajectory import read_trajectory

    output = Output(as_json=json)
    target = out if out is not None else trajectory.parent / "analysis"
    check_output_directory(target, owned=OWN_FILES, force=force)
    frames = read_trajectory(trajectory, frame_time_fs=frame_time)
    frames = frames.after(skip) if skip > 0.0 else frames
    compared = None
    if reference is not None:
        compared = radial_distribution(read_trajectory(reference), r_max=r_max)
    result: dict[str, Any] = {
        "trajectory": trajectory,
        "n_frames": frames.n_frames,
        "n_atoms": frames.n_atoms,
    }
    with staged_directory(target) as staging:
        result |= _structure(frames, compared, staging, output, r_max=r_max)
        result |= _transport(frames, staging, output, element=element, n_blocks=blocks)
        result |= _bonds(frames, output)
        names = sorted(path.name for path in staging.iterdir())
        result["plots"] = [target / name for name in names if name.endswith(".png")]
        _write_json(staging / "analysis.json", result)
    output.say(f"written      {target}")
    output.finish(result)


def _structure(
    frames: "Trajectory",
    reference: "RadialDistribution | None",
    directory: Path,
    output: Output,
    *,
    r_max: float,
) -> dict[str, Any]:
    """Radial distributions, and their distance from those of the reference."""
    from qiskit_qff.report.figures import save
    from qiskit_qff.report.md_figures import radial_distribution_figure
    from qiskit_qff.simulation.radial_distribution import (
        ALL,
        radial_distribution,
        radial_distribution_errors,
    )

    if not frames.pbc.all():
        output.note("no radial distributions: the structure is not periodic in all directions")
        return {"rdf_mae": None}
    found = radial_distribution(frames, r_max=r_max)
    _write_csv(directory / "rdf.csv", {"r_ang": found.r, **found.curves})
    errors = None if reference is None else radial_distribution_errors(found, reference)
    shared = found.curves if errors is None else {name: found.curves[name] for name in errors}
    curves = None if reference is None else reference.curves
    save(radial_distribution_figure(found.r, shared, reference=curves, errors=errors), directory / "rdf.png")
    peaks = {name: float(found.r[curve.argmax()]) for name, curve in found.curves.items() if curve.any()}
    output.table("highest peak of g(r)", ("pair", "r (Å)"), list(peaks.items()))
    if errors is None:
        return {"rdf_peaks_ang": peaks}
    output.table("mean absolute difference of g(r)", ("pair", "MAE"), list(errors.items()))
    partial = {name: value for name, value in errors.items() if name != ALL}
    return {"rdf_peaks_ang": peaks, "rdf_mae": errors.get(ALL), "rdf_mae_partial": partial}


def _transport(frames: "Trajectory", directory: Path, output: Output, *, element: str, n_blocks: int) -> dict[str, Any]:
    """Displacements and the diffusivity of one element, as far as the trajectory carries them."""
    from qiskit_qff.report.figures import save
    from qiskit_qff.report.md_figures import displacement_figure
    from qiskit_qff.simulation.diffusion import diffusivity
    from qiskit_qff.simulation.displacements import mean_squared_displacements

    try:
        found = mean_squared_displacements(frames)
    except DataError as error:
        output.note(f"no displacements: {error}")
        return {"diffusivity_cm2_per_s": None, "diffusivity_error_cm2_per_s": None}
    _write_csv(directory / "msd.csv", {"lag_ps": found.lag_ps, **found.curves})
    fitted: Diffusivity | None = None
    try:
        fitted = diffusivity(frames, element, n_blocks=n_blocks)
    except DataError as error:
        output.note(f"no diffusivity of {element}: {error}")
    note, line, span = "", None, None
    if fitted is not None:
        note = f"D({element}) = ({fitted.value_cm2_per_s:.2g} ± {fitted.error_cm2_per_s:.1g}) cm²/s"
        line = (fitted.value_ang2_per_ps, fitted.error_ang2_per_ps, fitted.intercept_ang2)
        span = fitted.fit_range_ps
        output.say(f"diffusivity  {note}, {fitted.n_blocks} blocks")
        if found.curves[element].max() < CAGED_ANG2:
            output.note(f"{element} has hardly left its sites: this is rattling, not diffusion; run longer")
    save(
        displacement_figure(found.lag_ps, found.curves, fit=line, fit_range_ps=span, note=note),
        directory / "msd.png",
    )
    return {
        "diffusivity_element": element,
        "diffusivity_cm2_per_s": fitted.value_cm2_per_s if fitted is not None else None,
        "diffusivity_error_cm2_per_s": fitted.error_cm2_per_s if fitted is not None else None,
        "diffusivity_fit_range_ps": span,
        "n_blocks": n_blocks,
        "msd_last_ang2": {name: float(curve[-1]) for name, curve in found.curves.items()},
    }


def _bonds(frames: "Trajectory", output: Output) -> dict[str, Any]:
    """Bonds of the first frame that broke, and atoms that went astray."""
    from qiskit_qff.simulation.bonds import bond_report

    report = bond_report(frames)
    broken, lost = len(report.broken), len(report.lost)
    output.say(f"bonds        {report.n_bonds} in the first frame, {broken} broken in the last; {lost} atoms lost")
    return {
        "n_bonds": report.n_bonds,
        "broken_bonds": broken,
        "bond_persistence_min": float(report.persistence.min()),
        "lost_atoms": lost,
    }


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    """Write columns of equal length as CSV."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(f"{value:.8g}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_json(path: Path, result: dict[str, Any]) -> None:
    """Write the result for other programs."""
    import json

    path.write_text(json.dumps(plain(result), indent=1) + "\n", encoding="utf-8")
