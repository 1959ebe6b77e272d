"""``qff analyse``: structure, transport and vibrations of trajectories, and the activation energy over several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from qiskit_qff.cli.analysis_output import FILES
from qiskit_qff.cli.options import ForceOption, JsonOption
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.output_directory import check_output_directory
from qiskit_qff.errors import ConfigError

OWN_FILES = ("analysis.json", "analysis.html", "report.html", "arrhenius.png", *FILES)


def analyse(
    trajectories: Annotated[
        list[Path],
        typer.Argument(metavar="TRAJ...", help="Trajectory of qff md, or any other; of several: Arrhenius."),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory to write to; default 'analysis' beside TRAJ.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Trajectory or data set whose RDFs to compare with.")
    ] = None,
    element: Annotated[str, typer.Option("--element", help="Mobile element.")] = "Li",
    skip: Annotated[float, typer.Option("--skip", min=0.0, help="Equilibration to leave out, in ps.")] = 0.0,
    frame_time: Annotated[
        float | None, typer.Option("--frame-time", help="Time between frames in fs, where TRAJ does not say.")
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", help="Temperature in K, where TRAJ does not say; once for each TRAJ, in order."),
    ] = None,
    charge: Annotated[float, typer.Option("--charge", help="Charge of a mobile ion, for the conductivity.")] = 1.0,
    relative_to: Annotated[
        str,
        typer.Option("--relative-to", help="Whose centre of mass rests in the diffusivity: all, or framework."),
    ] = "all",
    extrapolate: Annotated[
        float, typer.Option("--extrapolate", min=1.0, help="Temperature in K to extrapolate D to.")
    ] = 300.0,
    r_max: Annotated[float, typer.Option("--r-max", min=0.1, help="Reach of the RDFs in Å.")] = 6.0,
    resolution: Annotated[
        float, typer.Option("--resolution", min=1e-3, help="Resolution of the vibrational density of states in THz.")
    ] = 0.25,
    blocks: Annotated[int, typer.Option("--blocks", min=2, help="Blocks of the error bars.")] = 5,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Read structure, diffusivity, vibrations, ion density and bonds off trajectories."""
    from qiskit_qff.cli.analysis_run import AnalysisRequest, run_analysis
    from qiskit_qff.simulation.analysis import AnalysisSettings

    output = Output(as_json=json)
    if relative_to not in {"all", "framework"}:
        raise ConfigError(f"--relative-to: expected all or framework, received {relative_to!r}.")
    if temperature and len(temperature) != len(trajectories):
        raise ConfigError(
            f"--temperature: expected once for each of {len(trajectories)} trajectories, received {len(temperature)}."
        )
    target = out if out is not None else trajectories[0].parent / "analysis"
    names = run_names(trajectories)
    check_output_directory(target, owned=(*OWN_FILES, *names), force=force)
    request = AnalysisRequest(
        trajectories=dict(zip(names, trajectories, strict=True)),
        settings=AnalysisSettings(
            element=element,
            n_blocks=blocks,
            r_max=r_max,
            resolution_thz=resolution,
            about=relative_to,  # type: ignore[arg-type]  # checked above
        ),
        reference=reference,
        frame_time_fs=frame_time,
        skip_ps=skip,
        temperatures_k=tuple(temperature or ()),
        charge=charge,
        extrapolate_k=extrapolate,
    )
    result = run_analysis(request, target, output)
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
