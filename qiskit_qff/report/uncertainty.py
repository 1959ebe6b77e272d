"""The section of a report on grades, uncertainties and their coverage."""

import numpy as np
from ase.data import chemical_symbols
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Coverage
from qiskit_qff.model.uncertainty import LIMIT
from qiskit_qff.report.figures import INK, PALETTE, STYLE, new_figure
from qiskit_qff.report.html import Panel, Section, Table


@rc_context(STYLE)
def coverage_figure(found: Coverage) -> Figure:
    """Observed against nominal coverage; on the diagonal uncertainties are right.

    Args:
        found: What to draw.
    """
    figure, axes = new_figure()
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--", label="ideal")
    axes.plot(100 * found.nominal, 100 * found.forces, "o-", color=PALETTE[0], markersize=4, label="forces")
    axes.plot(
        100 * found.nominal,
        100 * found.energies,
        "s-",
        color=PALETTE[1],
        markersize=4,
        label=f"energies of {found.n_energies} frames",
    )
    axes.set(xlim=(0, 100), ylim=(0, 102), aspect="equal")
    axes.set(xlabel="nominal coverage (%)", ylabel="errors within the interval (%)")
    axes.legend(loc="upper left")
    return figure


def uncertainty_section(field: ForceField, found: Coverage | None) -> Section:
    """Grades, factor and coverage.

    Args:
        field: The model.
        found: Coverage on held-out frames; None where none were held out.
    """
    posterior = field.posterior
    if posterior is None:
        return Section(title="Uncertainty", text=("Not known: the model file has no posterior.",))
    atoms = Table(
        "Training atoms",
        ("element", "atoms"),
        tuple(
            (chemical_symbols[m.number], int(count)) for m, count in zip(field.models, posterior.counts, strict=True)
        ),
    )
    meaning = (
        "The extrapolation grade of an atom is 1 at the edge of the training data, which holds 99.9 % of the training "
        f"atoms of its element; above {LIMIT:g} 'qff md' warns, and 'qff select' finds such frames. It sees what the "
        "chosen channels see."
    )
    if found is None or not posterior.n_held_out:
        return Section(title="Uncertainty", text=(meaning,), tables=(atoms,))
    source = (
        "Uncertainties are standard deviations of what the data leave open of the coefficients, times "
        f"{posterior.factor:.2f}, fitted to the {posterior.n_held_out} held-out frames. In the figure and the tables "
        "each half of these frames is judged with the factor of the other half. Far from the training data the grade, "
        "not this factor, is the warning."
    )
    chosen = [int(np.argmin(np.abs(found.nominal - level))) for level in (0.5, 0.683, 0.9, 0.954, 0.99)]
    table = Table(
        "Coverage on held-out frames (%)",
        ("nominal", "forces", "energies"),
        tuple((100 * found.nominal[k], 100 * found.forces[k], 100 * found.energies[k]) for k in chosen),
    )
    size = Table(
        "Size of uncertainties",
        ("force (meV/Å)", "energy (meV/atom)", "rank correlation with the force error of atoms"),
        ((found.force_std_mev_per_ang, found.energy_std_mev_per_atom, found.force_rank),),
    )
    panel = Panel(
        "coverage",
        "Share of errors within intervals around the prediction, against the share that they should hold.",
        f"Intervals for 68 % hold {found.forces[6]:.0%} of force errors and {found.energies[6]:.0%} of energy errors.",
        coverage_figure(found),
    )
    return Section(title="Uncertainty", text=(meaning, source), tables=(table, size, atoms), panels=(panel,))
