"""Sections of a report on trajectories: every figure with a caption that says what it shows and how it was made."""

from collections.abc import Mapping

import numpy as np

from qiskit_qff import __version__
from qiskit_qff.report.analysis_figures import arrhenius_figure, coordination_figure, sites_figure, vibrations_figure
from qiskit_qff.report.html import Page, Panel, Section, Table
from qiskit_qff.report.md_figures import displacement_figure, radial_distribution_figure
from qiskit_qff.simulation.analysis import Analysis
from qiskit_qff.simulation.arrhenius import Arrhenius
from qiskit_qff.simulation.radial_distribution import (
    RadialDistribution,
    coordination_shells,
    radial_distribution_errors,
)

#: The space that ions roam is what encloses this fraction of them.
ENCLOSED = 0.9
# The isosurface that is drawn encloses this fraction: sites stand out, paths between them still show.
_DRAWN = 0.6


def analysis_panels(found: Analysis, *, reference: RadialDistribution | None = None) -> tuple[Panel, ...]:
    """Figures of all that a trajectory carries.

    Args:
        found: what it tells.
        reference: radial distributions to compare with.
    """
    makers = (_radial, _coordination, _displacements, _vibrations, _sites)
    return tuple(panel for make in makers if (panel := make(found, reference)) is not None)


def analysis_section(title: str, found: Analysis, panels: tuple[Panel, ...], facts: Mapping[str, str]) -> Section:
    """One trajectory of a report.

    Args:
        title: heading, for example the name of its directory.
        found: what it tells.
        panels: its figures.
        facts: numbers with units, by what they are.
    """
    table = Table("Numbers", ("quantity", "value"), tuple(facts.items()))
    gaps = tuple(f"No {name}: {reason}" for name, reason in found.missing.items())
    return Section(title=title, text=gaps, tables=(table,), panels=panels)


def arrhenius_panel(fitted: Arrhenius, *, element: str, extrapolate_k: float) -> Panel:
    """The Arrhenius line.

    Args:
        fitted: points and line.
        element: chemical symbol.
        extrapolate_k: temperature in K that the line is drawn to.
    """
    caption = (
        f"Diffusivity of {element} against inverse temperature, with a line fitted to ln D, weighted by the block "
        "averages' errors; the band is one standard error, the open square the extrapolation."
    )
    figure = arrhenius_figure(fitted, extrapolate_k=extrapolate_k, element=element)
    return Panel("arrhenius", caption, caption, figure)


def analysis_page(sections: tuple[Section, ...], *, lead: tuple[str, ...]) -> Page:
    """The whole page.

    Args:
        sections: its parts.
        lead: opening paragraphs.
    """
    return Page(title="Trajectory analysis", lead=lead, tiles=(), sections=sections, footer=f"qiskit_qff {__version__}")


def _radial(found: Analysis, reference: RadialDistribution | None) -> Panel | None:
    """Radial distributions."""
    radial = found.radial
    if radial is None:
        return None
    errors = None if reference is None else radial_distribution_errors(radial, reference)
    shared = radial.curves if errors is None else {name: radial.curves[name] for name in errors}
    curves = None if reference is None else reference.curves
    caption = f"Partial radial distribution functions over {radial.n_frames} frames."
    if reference is not None:
        caption += " Grey: the reference."
    return Panel("rdf", caption, caption, radial_distribution_figure(radial.r, shared, reference=curves, errors=errors))


def _coordination(found: Analysis, _reference: RadialDistribution | None) -> Panel | None:
    """Coordination numbers."""
    if found.radial is None or not (shells := coordination_shells(found.radial)):
        return None
    caption = (
        "Running coordination numbers. Dots: the first minimum of g(r), with the number of neighbours up to there in "
        "the legend; Li-S counts S around a Li."
    )
    return Panel("coordination", caption, caption, coordination_figure(found.radial.r, found.radial.neighbors, shells))


def _displacements(found: Analysis, _reference: RadialDistribution | None) -> Panel | None:
    """Mean squared displacements."""
    if found.displacements is None:
        return None
    diffusivity, note, line, span = found.diffusivity, "", None, None
    caption = "Mean squared displacements by element about the centre of mass of all atoms."
    if diffusivity is not None:
        value, error = diffusivity.value_cm2_per_s, diffusivity.error_cm2_per_s
        note = f"D({diffusivity.element}) = ({value:.2g} ± {error:.1g}) cm²/s"
        line = (diffusivity.value_ang2_per_ps, diffusivity.error_ang2_per_ps, diffusivity.intercept_ang2)
        span = diffusivity.fit_range_ps
        caption += f" Dashed: mean line and standard error of {diffusivity.n_blocks} blocks."
    curves = found.displacements.curves
    figure = displacement_figure(found.displacements.lag_ps, curves, fit=line, fit_range_ps=span, note=note)
    return Panel("msd", caption, caption, figure)


def _vibrations(found: Analysis, _reference: RadialDistribution | None) -> Panel | None:
    """Velocity autocorrelation and density of states."""
    vibrations = found.vibrations
    if vibrations is None:
        return None
    caption = (
        "Velocity autocorrelation and vibrational density of states, which integrates to 3N − 3 modes; resolution "
        f"{vibrations.resolution_thz:.2g} THz, mean of {vibrations.n_stretches} overlapping stretches."
    )
    return Panel("vibrations", caption, caption, vibrations_figure(vibrations))


def _sites(found: Analysis, _reference: RadialDistribution | None) -> Panel | None:
    """Ion density."""
    sites = found.sites
    if sites is None or not np.any(sites.values > 0.0):
        return None
    level = sites.level_enclosing(_DRAWN)
    caption = (
        f"Where {sites.element} is: the isosurface that encloses {_DRAWN:.0%} of it (net of contours) around the "
        "mean framework, and its density seen along the cell vectors."
    )
    return Panel("sites", caption, caption, sites_figure(sites, level=level))
