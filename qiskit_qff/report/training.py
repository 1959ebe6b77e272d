"""A training run on the page: verdict, errors, training, uncertainty, ledger, circuits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase.data import chemical_symbols

from qiskit_qff.circuit.ansatz import build_program
from qiskit_qff.durable import read_json, read_yaml
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.metrics import MEV_PER_EV, ONE_SIGMA, Comparison, Metrics, mean_absolute
from qiskit_qff.model.species_model import parameters_in_words
from qiskit_qff.model.uncertainty import LIMIT
from qiskit_qff.report.circuits import channels_in_words, circuit_costs, draw
from qiskit_qff.report.figures import Points, lines, parity, parity_energy, parity_forces
from qiskit_qff.report.page import Panel, Part, Section
from qiskit_qff.report.record import CONFIG, METRICS, MODEL, read_record, reading

# Force errors as a share of the forces' own size (RMSE over RMS). These are rules of thumb for a page, not limits of
# the method: each step up loses what depends on finer differences of forces.
_USES = (
    (0.1, "dynamics, relaxations and vibrations near the training data", "barriers to better than a few per cent"),
    (0.25, "dynamics and diffusion at the conditions of the training data", "vibrational frequencies and barriers"),
    (0.5, "drawing structures to label next (qff learn)", "quantities that depend on accurate forces"),
)
_HOPELESS = ("a baseline to compare with", "simulations: forces are wrong by half of their size and more")


def training_part(directory: Path) -> Part | None:
    """Everything that a training run says; None if ``qff train`` did not write this directory."""
    if not all((directory / name).is_file() for name in (MODEL, METRICS, CONFIG)):
        return None
    field, (comparisons, versions) = ForceField.load(directory / MODEL), read_record(directory)
    with reading(directory / CONFIG, remedy="Train again."):
        # As it stands: runs of older versions have settings that this one does not know.
        config = read_yaml(directory / CONFIG)
        seed, split, path = config["seed"], config["data"]["split"], config["data"]["path"]
        names = [Path(one).name for one in ([path] if isinstance(path, str) else path or [])]
        config["data"]["path"] = ", ".join(names) or "frames given in Python"
    with reading(directory / METRICS, remedy="Train again."):
        told = read_json(directory / METRICS)
        metrics = {name: Metrics.from_dict(told[name]) for name in ("train", "test") if name in told}
        linear = Metrics.from_dict(told["linear_test"]) if told.get("linear_test") else None
        losses = {name: told[name] for name in ("linear_loss", "loss", "bound")}
        tiles = _tiles(field, metrics, linear, losses, seconds=told["seconds"])
        uncertainty, stresses = _uncertainty_section(field, told.get("uncertainty")), bool(told.get("stresses_fitted"))
        n_train, n_test = len(told["train_frames"]), len(told["test_frames"])
        backend = [_backend_section(told["estimator"], losses["bound"])] if told.get("estimator") else []
    lead = [f"Trained on {n_train} frames, {n_test} held out (split: {split}); data: {config['data']['path']}."]
    if not comparisons:
        lead.append("No parity plots: the run kept no record.json. Train again.")
    settings = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).rstrip()
    costs = circuit_costs(field)
    drawings = {f"U on {spec.n_qubits} qubits": draw(build_program(spec).circuit) for spec, *_ in costs}
    ledger = {"ledger": field.ledger, "field": field, "channels": channels_in_words(field)}
    return Part(
        kind="training",
        title=f"Quantum force field for {' '.join(entry.symbol for entry in field.ledger.species)}",
        lead=tuple(lead),
        verdict=verdict(metrics["test"], stresses=stresses) if "test" in metrics else None,
        tiles=tiles,
        sections=(
            errors_section(comparisons, metrics, linear),
            Section("Training", "training.html", {"losses": losses}),
            uncertainty,
            *backend,
            Section("Parameter ledger", "ledger.html", ledger),
            Section("Circuits", "circuits.html", {"costs": costs, "drawings": drawings}),
            Section("Environment", "environment.html", {"versions": versions, "seed": seed, "settings": settings}),
        ),
    )


def verdict(errors: Metrics, *, stresses: bool) -> tuple[str, str] | None:
    """What a model with these errors on held-out frames is good for, and what not; None where forces are not known."""
    atoms = sum(entry["n_atoms"] for entry in errors.species.values())
    if not atoms:
        return None
    square = sum(e["n_atoms"] * e["force_reference_rms_mev_per_ang"] ** 2 for e in errors.species.values()) / atoms
    share = errors.force_rmse_mev_per_ang / np.sqrt(square) if square > 0.0 else np.inf
    good, bad = next(((good, bad) for limit, good, bad in _USES if share < limit), _HOPELESS)
    more = [bad, "structures unlike the training data (watch the extrapolation grade)"]
    if not stresses:
        more.append("pressures and changes of the cell (no stresses were fitted)")
    return f"{good}: the force error (RMSE) is {share:.0%} of the forces' size", "; ".join(more)


def errors_section(
    comparisons: Mapping[str, Comparison], metrics: Mapping[str, Metrics], linear: Metrics | None = None
) -> Section:
    """Tables and parity plots of sets by name; forces and the linear model's errors are those of the last set."""
    last = list(metrics)[-1]
    panels = []
    if comparisons and all(comparison.energies.size for comparison in comparisons.values()):
        caption = "Predicted energies per atom against ab initio ones, relative to their mean."
        panels.append(Panel("parity_energy", caption, parity_energy(comparisons)))
    if last in comparisons and comparisons[last].forces.size:
        shown = comparisons[last]
        part = f"; {len(shown.forces)} of {shown.n_atoms} atoms" if len(shown.forces) < shown.n_atoms else ""
        caption = f"Predicted force components against ab initio ones, {last}{part}, with the MAE of each element."
        panels.append(Panel("parity_forces", caption, parity_forces(shown)))
    stresses: dict[str, Points] = {
        f"{name}: MAE {mean_absolute(c.stress_errors):.2g} meV/Å³": (
            MEV_PER_EV * c.stresses, MEV_PER_EV * c.predicted_stresses
        )
        for name, c in comparisons.items()
        if c.stresses.size
    }  # fmt: skip
    if stresses:
        caption = "Stress components against ab initio ones, tension positive; 1 GPa is 6.24 meV/Å³."
        figure = parity(stresses, x_label="ab initio stress component (meV/Å³)", y_label="predicted (meV/Å³)")
        panels.append(Panel("parity_stresses", caption, figure))
    sets = dict(metrics) if linear is None else {**metrics, f"{last}, linear model": linear}
    return Section("Errors", "errors.html", {"sets": sets, "last": last, "shown": metrics[last]}, tuple(panels))


def _tiles(
    field: ForceField,
    metrics: Mapping[str, Metrics],
    linear: Metrics | None,
    losses: Mapping[str, float],
    *,
    seconds: float,
) -> tuple[tuple[str, str], ...]:
    """Headline numbers, with those of the linear model on the same channels beside them."""
    name, shown = list(metrics.items())[-1]
    force = "" if linear is None else f"; linear model {linear.force_mae_mev_per_ang:.0f}"
    energy = "" if linear is None else f"; linear model {linear.energy_mae_mev_per_atom:.2f}"
    count, _, words = parameters_in_words(field.n_trainable).partition(" ")
    return (
        (f"{shown.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE, {name}{force}"),
        (f"{shown.energy_mae_mev_per_atom:.2f} meV/atom", f"energy MAE, {name}{energy}"),
        (f"{losses['loss']:.4g}", f"loss per frame; linear model on the same channels {losses['linear_loss']:.4g}"),
        (count, words),
        (f"{len(field.registers)} × {field.n_qubits} qubits", "registers, and qubits of the largest"),
        (f"{seconds:.0f} s", "reading and training"),
    )


def _backend_section(told: Mapping[str, Any], bound: float) -> Section:
    """Cost and learning curve of training on a backend."""
    curves = {
        f"measured on {told['backend']}": np.array(told["losses"], dtype=float),
        "exact, same angles (not used)": np.array(told["exact_losses"], dtype=float),
    }
    figure = lines(None, curves, x_label="step", y_label="loss", level=(bound, "bound (any M)"), log=True)
    kept = {"last": "the last ones", "average": "an average over the last steps", "start": "those of the start"}
    caption = (
        f"{told['steps_done']} steps of {told['optimizer']}, mitigation: {told['mitigation']}. The angles kept are "
        f"{kept.get(told['kept'], told['kept'])}; their loss was measured once more."
    )
    costs = {
        "one step, as planned": (told["circuits_per_step"], told["shots_per_step"], told.get("seconds_per_step")),
        "the whole run": (told["n_circuits"], told["n_shots"], told["estimated_seconds"]),
    }
    panel = Panel("learning_curve", caption, figure)
    return Section(f"Training on {told['backend']}", "backend_training.html", {"costs": costs}, (panel,))


def _uncertainty_section(field: ForceField, coverage: Mapping[str, Any] | None) -> Section:
    """Grades, the scaling of the uncertainties, and coverage."""
    posterior = field.posterior
    counts = [] if posterior is None else posterior.counts.tolist()
    rows = [(chemical_symbols[model.number], count) for model, count in zip(field.models, counts, strict=False)]
    data: dict[str, Any] = {"atoms": rows, "limit": LIMIT, "posterior": posterior, "coverage": coverage}
    if posterior is None or coverage is None:
        return Section("Uncertainty", "uncertainty.html", data)
    nominal, forces, energies = (100 * np.array(coverage[key]) for key in ("nominal", "forces", "energies"))
    data["within"] = forces[ONE_SIGMA], energies[ONE_SIGMA]
    curves: dict[str, Points] = {"forces": (nominal, forces), "energies": (nominal, energies)}
    caption = "Share of errors within intervals around the prediction, against the share that they should hold."
    figure = parity(curves, x_label="nominal coverage (%)", y_label="errors within the interval (%)")
    return Section("Uncertainty", "uncertainty.html", data, (Panel("coverage", caption, figure),))
