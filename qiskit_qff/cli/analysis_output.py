"""What ``qff analyse`` says and writes of one trajectory."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.simulation.analysis import Analysis, BlockedMean
    from qiskit_qff.simulation.radial_distribution import RadialDistribution
    from qiskit_qff.simulation.vibrations import Vibrations

#: Below this mean squared displacement (2 Å, a short hop) a slope says nothing about diffusion.
CAGED_ANG2 = 4.0
#: Files of one trajectory.
FILES = (
    *("rdf.csv", "rdf.png", "coordination.csv", "coordination.png", "msd.csv", "msd.png"),
    *("vacf.csv", "vdos.csv", "vibrations.png", "sites.cube", "sites.png"),
)
# A temperature that drifts by more than this fraction is no temperature of a diffusivity.
_DRIFT = 0.1
# Moves between frames, in cell vectors, that leave no doubt about the image; half a cell vector is the end.
_FARTHEST = 0.4
# The fastest vibrations in THz, with and without hydrogen (C-H and O-H stretches; P-S, C=C below 50 THz).
_FASTEST = {True: 115.0, False: 50.0}


def structure_result(found: "Analysis", reference: "RadialDistribution | None", output: Output) -> dict[str, Any]:
    """Radial distributions, coordination and density."""
    from qiskit_qff.simulation.radial_distribution import ALL, coordination_shells, radial_distribution_errors

    result: dict[str, Any] = {"density_g_per_cm3": None, "volume_ang3": None, "rdf_mae": None, "coordination": {}}
    if (density := found.density_g_per_cm3) is not None and found.volume_ang3 is not None:
        result |= {"density_g_per_cm3": density[0], "density_error_g_per_cm3": density[1]}
        result |= {"volume_ang3": found.volume_ang3.value, "volume_error_ang3": found.volume_ang3.error}
        error = f" ± {density[1]:.1g}" if density[1] > 0.0 else ""
        output.say(f"density      {density[0]:.4g}{error} g/cm³")
    if found.radial is None:
        output.note(f"no radial distributions: {found.missing['radial']}")
        return result
    radial = found.radial
    peaks = {name: float(radial.r[curve.argmax()]) for name, curve in radial.curves.items() if curve.any()}
    output.table("highest peak of g(r)", ("pair", "r (Å)"), list(peaks.items()))
    shells = coordination_shells(radial)
    result |= {"rdf_peaks_ang": peaks, "coordination": {name: vars(shell) for name, shell in shells.items()}}
    if shells:
        rows = [(name, shell.neighbors, shell.peak_ang, shell.end_ang) for name, shell in shells.items()]
        output.table("coordination, first shell", ("around-of", "number", "peak (Å)", "end (Å)"), rows)
    if reference is not None:
        errors = radial_distribution_errors(radial, reference)
        output.table("mean absolute difference of g(r)", ("pair", "MAE"), list(errors.items()))
        partial = {name: value for name, value in errors.items() if name != ALL}
        result |= {"rdf_mae": errors.get(ALL), "rdf_mae_partial": partial}
        alone = sorted({name for one in (radial, reference) for name in one.curves} - set(errors))
        if alone:
            output.note(f"pairs in only one of trajectory and reference, not compared: {', '.join(alone)}")
    return result


def transport_result(
    found: "Analysis", output: Output, *, element: str, temperature_k: float | None, charge: float
) -> dict[str, Any]:
    """Displacements, diffusivities and conductivities."""
    result: dict[str, Any] = {
        "diffusivity_element": element,
        "diffusivity_cm2_per_s": None,
        "diffusivity_error_cm2_per_s": None,
        "temperature_k": temperature_k,
    }
    if found.displacements is None:
        output.note(f"no displacements: {found.missing['displacements']}")
        return result
    if found.largest_move > _FARTHEST:
        output.note(
            f"an atom moves by {found.largest_move:.2f} of a cell vector between two frames, so displacements across "
            "borders are a guess; write frames more often"
        )
    curves = found.displacements.curves
    result["largest_move"] = found.largest_move
    result["msd_last_ang2"] = {name: float(curve[-1]) for name, curve in curves.items()}
    d = found.diffusivity
    if d is None:
        output.note(f"no diffusivity of {element}: {found.missing['diffusivity']}")
        return result
    value, error = d.value_cm2_per_s, d.error_cm2_per_s
    output.say(f"diffusivity  D({element}) = ({value:.2g} ± {error:.1g}) cm²/s, {d.n_blocks} blocks")
    is_caged = bool(curves[element].max() < CAGED_ANG2)
    reached = d.intercept_ang2 + 6.0 * d.value_ang2_per_ps * d.fit_range_ps[1]
    if is_caged:
        output.note(f"{element} has hardly left its sites: this is rattling, not diffusion; run longer")
    elif reached < CAGED_ANG2:
        output.note(
            f"within a block, lines end at {d.fit_range_ps[1]:.3g} ps and {reached:.2g} Å²: less than a hop, so that "
            "rattling raises D. Run longer, or use fewer --blocks"
        )
    result |= {
        "diffusivity_cm2_per_s": value,
        "diffusivity_error_cm2_per_s": error,
        "diffusivity_interval95_cm2_per_s": d.interval_cm2_per_s,
        "diffusivity_fit_range_ps": d.fit_range_ps,
        "n_blocks": d.n_blocks,
        "is_caged": is_caged,
        "fit_reaches_ang2": reached,
        "charge_diffusivity_cm2_per_s": d.charge.value_cm2_per_s,
        "charge_diffusivity_error_cm2_per_s": d.charge.error_cm2_per_s,
        "haven_ratio": d.haven_ratio,
    }
    return result | _conductivity(found, output, temperature_k=temperature_k, charge=charge)


def _conductivity(
    found: "Analysis", output: Output, *, temperature_k: float | None, charge: float
) -> dict[str, float | str | None]:
    """Nernst-Einstein conductivity of independent ions, and that with their correlations."""
    from qiskit_qff.simulation.diffusion import conductivity_s_per_cm

    d = found.diffusivity
    if d is None or temperature_k is None or found.volume_ang3 is None:
        output.note("no conductivity: it needs a volume and a temperature (--temperature)")
        return {"conductivity_s_per_cm": None}
    per_unit = conductivity_s_per_cm(
        1.0, n_ions=d.n_ions, volume_ang3=found.volume_ang3.value, temperature_k=temperature_k, charge=charge
    )
    names = {"conductivity": d, "charge_conductivity": d.charge}
    result: dict[str, float | str | None] = {
        "conductivity_method": "Nernst-Einstein from the tracer diffusivity; charge_conductivity: with correlations",
    }
    for name, slope in names.items():
        result[f"{name}_s_per_cm"] = per_unit * slope.value_ang2_per_ps
        result[f"{name}_error_s_per_cm"] = per_unit * slope.error_ang2_per_ps
    output.say(
        f"conductivity {per_unit * d.value_ang2_per_ps:.2g} ± {per_unit * d.error_ang2_per_ps:.1g} S/cm "
        f"(Nernst-Einstein at {temperature_k:.0f} K, ions of charge {charge:g} taken as independent)"
    )
    output.say(
        f"             {per_unit * d.charge.value_ang2_per_ps:.2g} ± {per_unit * d.charge.error_ang2_per_ps:.1g} S/cm "
        f"with their correlations, Haven ratio {d.haven_ratio:.2g}"
    )
    return result


def other_results(found: "Analysis", output: Output, *, cube: Path) -> dict[str, Any]:
    """Vibrations, ion density and bonds."""
    result: dict[str, Any] = {"vibrations": None, "sites": None}
    if (vibrations := found.vibrations) is not None:
        result["vibrations"] = _vibrations(vibrations, found, output)
    else:
        output.note(f"no vibrations: {found.missing['vibrations']}")
    if (sites := found.sites) is not None:
        from qiskit_qff.report.analysis_page import ENCLOSED

        level = sites.level_enclosing(ENCLOSED)
        result["sites"] = {
            "cube": cube,
            "level_per_ang3": level,
            "enclosed_fraction": ENCLOSED,
            "volume_fraction": sites.volume_fraction(level),
            "percolates": sites.percolates(level),
        }
    else:
        output.note(f"no ion density: {found.missing['sites']}")
    bonds = found.bonds
    broken, lost = len(bonds.broken), len(bonds.lost)
    output.say(f"bonds        {bonds.n_bonds} in the first frame, {broken} broken in the last; {lost} atoms lost")
    return result | {
        "n_bonds": bonds.n_bonds,
        "broken_bonds": broken,
        "bond_persistence_min": float(bonds.persistence.min()),
        "lost_atoms": lost,
    }


def _vibrations(vibrations: "Vibrations", found: "Analysis", output: Output) -> dict[str, Any]:
    """The highest peak of each element, and a warning where frames are too far apart."""
    fastest = _FASTEST[bool((found.numbers == 1).any())]
    if vibrations.highest_thz < fastest:
        output.note(
            f"velocities show vibrations up to {vibrations.highest_thz:.3g} THz; faster ones appear at wrong places. "
            f"For all of them, write a frame every {1e3 / (2 * fastest):.2g} fs (qff md --interval)"
        )
    peaks = {name: float(vibrations.frequency_thz[curve.argmax()]) for name, curve in vibrations.density.items()}
    return {
        "resolution_thz": vibrations.resolution_thz,
        "highest_thz": vibrations.highest_thz,
        "n_stretches": vibrations.n_stretches,
        "highest_peak_thz": peaks,
    }


def temperature_of(found: "Analysis", given: float | None, output: Output) -> float | None:
    """Temperature in K that was given, or that the frames carry; a note where it drifts."""
    mean: BlockedMean | None = found.temperature_k
    if mean is not None:
        output.say(f"temperature  {mean.value:.1f} ± {mean.error:.1f} K")
        if abs(mean.drift) > _DRIFT * mean.value:
            output.note(f"the temperature changes by {mean.drift:+.0f} K: averages and diffusivity mix temperatures")
    return given if given is not None else None if mean is None else mean.value


def write_tables(found: "Analysis", directory: Path) -> None:
    """Curves as CSV, and the ion density as a cube file."""
    if (radial := found.radial) is not None:
        _write_csv(directory / "rdf.csv", {"r_ang": radial.r, **radial.curves})
        ends = radial.r + 0.5 * (radial.r[1] - radial.r[0])
        _write_csv(directory / "coordination.csv", {"r_ang": ends, **radial.neighbors})
    if (displacements := found.displacements) is not None:
        _write_csv(directory / "msd.csv", {"lag_ps": displacements.lag_ps, **displacements.curves})
    if (vibrations := found.vibrations) is not None:
        _write_csv(directory / "vacf.csv", {"lag_ps": vibrations.lag_ps, **vibrations.correlation})
        _write_csv(directory / "vdos.csv", {"frequency_thz": vibrations.frequency_thz, **vibrations.density})
    if found.sites is not None:
        found.sites.write_cube(directory / "sites.cube")


def _write_csv(path: Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as CSV."""
    header = ",".join(columns)
    np.savetxt(path, np.column_stack(list(columns.values())), fmt="%.8g", delimiter=",", header=header, comments="")
