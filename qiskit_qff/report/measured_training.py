"""The section of a report that tells of training on a backend: what was measured, and how the loss fell."""

from collections.abc import Mapping
from typing import Any

from qiskit_qff.report import figures
from qiskit_qff.report.html import Panel, Section, Table

_KEPT = {"last": "the last ones", "average": "an average over the last steps", "start": "those of the start"}


def measured_section(told: Mapping[str, Any], *, bound: float) -> Section:
    """Cost and learning curve.

    Args:
        told: what ``metrics.json`` says of training on a backend.
        bound: loss of the best symmetric matrices.
    """
    backend = told["backend"]
    curves = {
        f"measured on {backend}": told["losses"],
        "exact, same angles (not used)": told["exact_losses"],
    }
    table = Table(
        "Cost",
        ("", "circuits", "shots", "estimated processor time (s)"),
        (
            ("one step, as planned", told["circuits_per_step"], told["shots_per_step"], told.get("seconds_per_step")),
            ("the whole run", told["n_circuits"], told["n_shots"], told["estimated_seconds"]),
        ),
    )
    words = f"{told['steps_done']} steps of {told['optimizer']}, mitigation: {told['mitigation']}"
    kept = _KEPT.get(told["kept"], told["kept"])
    panel = Panel(
        "learning_curve",
        f"{words}. The angles kept are {kept}; their loss was measured with more shots.",
        f"Loss falls from {told['losses'][0]:.3g} to {told['final_loss']:.3g} as measured.",
        figures.training_curve(curves, bound=bound),
    )
    return Section(title=f"Training on {backend}", tables=(table,), panels=(panel,))
