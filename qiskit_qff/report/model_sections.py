"""The sections of a report that tell of a model: its errors, its training, its ledger and its circuits."""

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import Comparison, Metrics
from qiskit_qff.report import figures
from qiskit_qff.report.circuits import draw, measured_circuit, two_qubit_depth
from qiskit_qff.report.html import Cell, Panel, Section, Table
from qiskit_qff.report.training_run import TrainingRun

_WHAT_COUNTS = (
    "Trainable is every number fitted to a label (energy, force, stress); reference energies count as many as the "
    "training compositions can tell apart, of all elements together. Channels were chosen against energies and "
    "forces (a discrete choice); label-free numbers are means and scales of channels."
)


def errors_section(comparisons: Mapping[str, Comparison], metrics: Mapping[str, Metrics]) -> Section:
    """Tables and parity plots; the forces and their histogram are of the last set, normally ``test``.

    Args:
        comparisons: labels and predictions by the name of the set; none where they are not known.
        metrics: errors, by the same names.
    """
    last = list(metrics)[-1]
    header: tuple[str, ...] = ("set", "frames", "energy MAE", "energy RMSE", "force MAE", "force RMSE")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            m.n_frames,
            m.energy_mae_mev_per_atom,
            m.energy_rmse_mev_per_atom,
            m.force_mae_mev_per_ang,
            m.force_rmse_mev_per_ang,
        )
        for name, m in metrics.items()
    )
    units = "meV/atom, meV/Å"
    if any(m.stress_mae_mev_per_ang3 is not None for m in metrics.values()):
        header, units = (*header, "stress MAE", "stress RMSE"), f"{units}, meV/Å³"
        rows = tuple(
            (*row, m.stress_mae_mev_per_ang3, m.stress_rmse_mev_per_ang3)
            for row, m in zip(rows, metrics.values(), strict=True)
        )
    return Section(
        title="Errors",
        tables=(
            Table(f"All frames ({units})", header, rows),
            _species_table(metrics[last], last),
        ),
        panels=_error_panels(comparisons, last) if comparisons else (),
    )


def training_section(run: TrainingRun) -> Section:
    """How the loss fell, what each channel was worth, and how far the bound is.

    Args:
        run: the training run.
    """
    losses = {f"start {number + 1}": values for number, values in enumerate(run.record.losses)}
    panels = []
    if losses:
        panels.append(
            Panel(
                "training",
                "Loss along each start of the optimiser; dashed: no circuit can be better with these channels.",
                f"Loss falls to {run.loss:.3g}; the bound is {run.bound:.3g}.",
                figures.training_curve(losses, bound=run.bound),
            )
        )
    if run.record.selection is not None:
        path = run.record.selection
        panels.append(
            Panel(
                "selection",
                "Squared error that a linear model leaves after each channel that forward selection takes.",
                f"{len(path) - 1} channels leave {path[-1]:.2%} of the squared error.",
                figures.selection_curve({"all elements": path}),
            )
        )
    table = Table(
        "Loss per frame",
        ("model on the same channels", "loss"),
        (
            ("linear", run.linear_loss),
            ("this circuit", run.loss),
            ("bound: any symmetric matrix", run.bound),
        ),
    )
    return Section(title="Training", tables=(table,), panels=tuple(panels))


def ledger_section(field: ForceField) -> Section:
    """Every number that was fitted, and every one that was not.

    Args:
        field: the model.
    """
    header = ("element", "qubits", "angles", "weights", "reference energies", "trainable", "channels", "label-free")
    entries = field.ledger.species
    rows = tuple(
        (
            e.symbol,
            e.n_qubits,
            e.angles,
            e.weights,
            "",
            e.trainable,
            e.channels,
            int(e.label_free),
        )
        for e in entries
    )
    total = (
        "all",
        field.n_qubits,
        sum(e.angles for e in entries),
        sum(e.weights for e in entries),
        field.ledger.reference_energies,
        field.n_trainable,
        sum(e.channels for e in entries),
        sum(int(e.label_free) for e in entries),
    )
    scales = sum(e.scales for e in entries)
    tied = sum(e.tied for e in entries)
    equations = f" {tied} numbers are not counted: angles and weight of a balanced readout obey one equation each."
    chosen = f" {scales} readout weights are powers of two in eV, chosen as channels are and not fitted."
    return Section(
        title="Parameter ledger",
        text=(_WHAT_COUNTS + equations * (tied > 0) + chosen * (scales > 0),),
        tables=(Table("Numbers by element", header, (*rows, total)),),
    )


def channels_section(field: ForceField) -> Section:
    """The channels of every element in words.

    Args:
        field: the model.
    """
    return Section(
        title="Channels",
        text=("What each element's atoms see of their surroundings.",),
        drawings=tuple(
            (f"{symbol}: {len(words)} channels", "\n".join(words)) for symbol, words in channels_in_words(field).items()
        ),
    )


def circuits_section(field: ForceField) -> Section:
    """The circuit of every element, with its two-qubit depth on a heavy-hex device.

    Args:
        field: the model.
    """
    depths = circuit_depths(field)
    rows = tuple(
        (
            chemical_symbols[model.number],
            model.ansatz.family,
            model.ansatz.readout,
            model.ansatz.n_qubits,
            model.ansatz.n_angles,
            depths[chemical_symbols[model.number]][0],
            depths[chemical_symbols[model.number]][1],
        )
        for model in field.models
    )
    header = ("element", "family", "readout", "qubits", "angles", "depth of U", "depth with loader")
    return Section(
        title="Circuits",
        text=("Depths count layers of two-qubit gates, transpiled for a heavy-hex lattice with CZ gates.",),
        tables=(Table("Circuits by element", header, rows),),
        drawings=tuple(
            (f"U of {chemical_symbols[number]}", draw(program.circuit)) for number, program in field.programs.items()
        ),
    )


def channels_in_words(field: ForceField) -> dict[str, list[str]]:
    """Channels by chemical symbol, such as ``P-S two-body at 2.05 Å``."""
    return {
        chemical_symbols[model.number]: [
            model.compression.channels.describe(channel) for channel in range(model.compression.channels.n_channels)
        ]
        for model in field.models
    }


def circuit_depths(field: ForceField) -> dict[str, tuple[int, int]]:
    """Two-qubit depth of U alone, and of the loader and U, by chemical symbol."""
    return {
        chemical_symbols[number]: (two_qubit_depth(program.circuit), two_qubit_depth(measured_circuit(program)))
        for number, program in field.programs.items()
    }


def _species_table(metrics: Metrics, name: str) -> Table:
    """Force errors by element."""
    return Table(
        f"Forces by element, {name} (meV/Å)",
        ("element", "atoms", "MAE", "RMSE", "RMS of the labels"),
        tuple(
            (
                symbol,
                e.n_atoms,
                e.force_mae_mev_per_ang,
                e.force_rmse_mev_per_ang,
                e.force_reference_rms_mev_per_ang,
            )
            for symbol, e in metrics.species.items()
        ),
    )


def _error_panels(comparisons: Mapping[str, Comparison], last: str) -> tuple[Panel, ...]:
    """Parity plots and the histogram of force errors, where there are labels for them."""
    panels = []
    if all(comparison.energies.size for comparison in comparisons.values()):
        panels.append(
            Panel(
                "parity_energy",
                "Energies per atom against ab initio, relative to their mean.",
                "Scatter plot of predicted against ab initio energies along the diagonal.",
                figures.parity_energy(comparisons),
            )
        )
        panels.append(
            Panel(
                "energy_errors",
                "How often the energy per atom is wrong by how much.",
                "Histogram of energy errors by set.",
                figures.energy_error_histogram(comparisons),
            )
        )
    shown = comparisons[last]
    if shown.forces.size:
        part = f"; {len(shown.forces)} of {shown.n_atoms} atoms" if len(shown.forces) < shown.n_atoms else ""
        panels += [
            Panel(
                "parity_forces",
                f"Force components against ab initio, {last}{part}.",
                "Scatter plot of predicted against ab initio force components, coloured by element.",
                figures.parity_forces(shown),
            ),
            Panel(
                "force_errors",
                f"How often a force component is wrong by how much, {last}{part}.",
                "Histogram of force errors by element on a logarithmic scale.",
                figures.force_error_histogram(shown),
            ),
        ]
        if len(np.unique(shown.species)) > 1:
            panels.append(
                Panel(
                    "parity_elements",
                    f"Force components against ab initio by element, {last}{part}.",
                    "One scatter plot an element of predicted against ab initio force components.",
                    figures.parity_by_element(shown),
                )
            )
    if any(comparison.stresses.size for comparison in comparisons.values()):
        panels.append(
            Panel(
                "parity_stresses",
                "Components of the stress against ab initio, tension positive; 1 GPa is 6.24 meV/Å³.",
                "Scatter plot of predicted against ab initio stress components along the diagonal.",
                figures.parity_stresses(comparisons),
            )
        )
    return tuple(panels)
