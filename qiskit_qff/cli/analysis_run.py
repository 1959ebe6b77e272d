"""The work of ``qff analyse``: each trajectory on its own, then the activation energy over all of them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.analysis_output import (
    other_results,
    structure_result,
    temperature_of,
    transport_result,
    write_tables,
)
from qiskit_qff.cli.output import Output, plain
from qiskit_qff.cli.output_directory import staged_directory
from qiskit_qff.errors import DataError

if TYPE_CHECKING:
    from qiskit_qff.report.html import Panel, Section
    from qiskit_qff.simulation.analysis import AnalysisSettings
    from qiskit_qff.simulation.radial_distribution import RadialDistribution


@dataclass(frozen=True)
class AnalysisRequest:
    """What ``qff analyse`` was asked for."""

    trajectories: Mapping[str, Path]
    """Files by short name."""
    settings: "AnalysisSettings"
    """What to look for."""
    reference: Path | None
    """Trajectory or data set to compare radial distributions with."""
    frame_time_fs: float | None
    """Time between frames in fs, where files do not say."""
    skip_ps: float
    """Equilibration to leave out in ps."""
    temperatures_k: tuple[float, ...]
    """Temperatures in K, where files do not say; empty or one for each trajectory."""
    charge: float
    """Charge of a mobile ion in elementary charges."""
    extrapolate_k: float
    """Temperature in K to extrapolate diffusivities to."""


def run_analysis(request: AnalysisRequest, target: Path, output: Output) -> dict[str, Any]:
    """Analyse, and write tables, figures and the page.

    Args:
        request: what to do.
        target: directory that the files appear in.
        output: where to say results.

    Raises:
        DataError: if a trajectory can't be read.
    """
    reference = _read_reference(request)
    results, sections = [], []
    is_single = len(request.trajectories) == 1
    with staged_directory(target) as staging:
        for index, name in enumerate(request.trajectories):
            inside = "" if is_single else name
            (staging / inside).mkdir(exist_ok=True)
            if not is_single:
                output.say(f"{name}:")
            result, section = _analyse_one(request, index, reference, (staging / inside, target / inside), output)
            results.append(result)
            sections.append(section)
        result = results[0] if is_single else {"trajectories": results}
        if not is_single:
            result["arrhenius"], panel = _arrhenius(request, results, output)
            result["plots"] = [] if panel is None else [target / _save(panel, staging)]
            sections = sections if panel is None else [_across(panel), *sections]
        _write_page(request, sections, staging / "analysis.html")
        result["report"] = target / "analysis.html"
        (staging / "analysis.json").write_text(json.dumps(plain(result), indent=1) + "\n", encoding="utf-8")
    return result


def _read_reference(request: AnalysisRequest) -> "RadialDistribution | None":
    """Radial distributions to compare with."""
    from qiskit_qff.simulation.radial_distribution import PairDistances
    from qiskit_qff.simulation.trajectory import stream_trajectory

    if request.reference is None:
        return None
    stream = stream_trajectory(request.reference)
    gather = PairDistances(stream, r_max=request.settings.r_max)
    for snapshot in stream.snapshots:
        gather.add(snapshot)
    return gather.result()


def _analyse_one(
    request: AnalysisRequest,
    index: int,
    reference: "RadialDistribution | None",
    places: tuple[Path, Path],
    output: Output,
) -> tuple[dict[str, Any], "Section"]:
    """One trajectory: its numbers, its files in the first place (to appear in the second), its section."""
    from qiskit_qff.report.analysis_page import analysis_panels, analysis_section
    from qiskit_qff.report.analysis_tables import analysis_facts
    from qiskit_qff.simulation.analysis import analyse_stream
    from qiskit_qff.simulation.trajectory import stream_trajectory

    name, path = list(request.trajectories.items())[index]
    staging, target = places
    stream = stream_trajectory(path, frame_time_fs=request.frame_time_fs, skip_ps=request.skip_ps)
    with output.progress(f"reading {path.name}") as advance:
        found = analyse_stream(
            stream, request.settings, progress=lambda done: advance("", done * stream.n_frames, stream.n_frames)
        )
    given = request.temperatures_k[index] if request.temperatures_k else None
    temperature = temperature_of(found, given, output)
    result: dict[str, Any] = {
        "trajectory": path,
        "n_frames": found.n_frames,
        "n_atoms": len(found.numbers),
        "time_ps": found.time_ps,
    }
    result |= structure_result(found, reference, output)
    result |= transport_result(
        found, output, element=request.settings.element, temperature_k=temperature, charge=request.charge
    )
    result |= other_results(found, output, cube=target / "sites.cube")
    write_tables(found, staging)
    panels = analysis_panels(found, reference=reference)
    result["plots"] = [target / _save(panel, staging) for panel in panels]
    return result, analysis_section(name, found, panels, dict(analysis_facts(result)))


def _arrhenius(
    request: AnalysisRequest, results: Sequence[Mapping[str, Any]], output: Output
) -> tuple[dict[str, Any] | None, "Panel | None"]:
    """Activation energy and extrapolated diffusivity, from the trajectories that show diffusion."""
    from qiskit_qff.report.analysis_page import arrhenius_panel
    from qiskit_qff.simulation.arrhenius import fit_arrhenius

    points = []
    for name, result in zip(request.trajectories, results, strict=True):
        value, temperature = result["diffusivity_cm2_per_s"], result["temperature_k"]
        if value is None or temperature is None or value <= 0.0 or result["is_caged"]:
            output.note(f"{name} is left out of the Arrhenius line: no diffusion, or no temperature (--temperature)")
        else:
            points.append((temperature, value, result["diffusivity_error_cm2_per_s"]))
    try:
        fitted = fit_arrhenius(*([point[column] for point in points] for column in range(3)))
    except DataError as error:
        output.note(f"no activation energy: {error}")
        return None, None
    element, coldest = request.settings.element, request.extrapolate_k
    value, spread = fitted.diffusivity(coldest)
    output.say(f"activation   Ea = {fitted.activation_ev:.3f} ± {fitted.activation_error_ev:.3f} eV")
    low, high = value * math.exp(-spread), value * math.exp(spread)
    output.say(f"             D({element}, {coldest:g} K) = {value:.2g} cm²/s, between {low:.2g} and {high:.2g}")
    told = {
        "activation_ev": fitted.activation_ev,
        "activation_error_ev": fitted.activation_error_ev,
        "prefactor_cm2_per_s": fitted.prefactor_cm2_per_s,
        "reduced_chi_square": fitted.chi_square,
        "n_temperatures": len(points),
        "extrapolated_k": coldest,
        "extrapolated_cm2_per_s": value,
        "extrapolated_log_error": spread,
        "extrapolated_interval_cm2_per_s": (low, high),
    }
    return told, arrhenius_panel(fitted, element=element, extrapolate_k=coldest)


def _across(panel: "Panel") -> "Section":
    """The section of what the trajectories tell together."""
    from qiskit_qff.report.html import Section

    return Section(title="Activation energy", panels=(panel,))


def _save(panel: "Panel", directory: Path) -> str:
    """Write one figure; gives the file's name."""
    from qiskit_qff.report.figures import save

    name = f"{panel.name}.png"
    save(panel.figure, directory / name)
    return name


def _write_page(request: AnalysisRequest, sections: Sequence["Section"], path: Path) -> None:
    """Write all figures and numbers as one page."""
    from qiskit_qff.report.analysis_page import analysis_page
    from qiskit_qff.report.html import write_page

    lead = (
        f"Error bars are standard errors over {request.settings.n_blocks} consecutive blocks of each trajectory. "
        "Diffusivities come from straight lines through the mean squared displacement of each block, over lags between "
        "10 % and 50 % of its length; conductivities from the Nernst-Einstein relation."
    )
    write_page(analysis_page(tuple(sections), lead=(lead,)), path)
