"""The section of a report that tells of training on a backend: what was measured, and how the loss fell."""

from qiskit_qff.model.config import EstimatorConfig
from qiskit_qff.report import figures
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.training.measured.run import MeasuredTraining


def measured_section(measured: MeasuredTraining, asked: EstimatorConfig, *, bound: float) -> Section:
    """Cost and learning curve.

    Args:
        measured: the training.
        asked: its settings.
        bound: loss of the best symmetric matrices.
    """
    everything = (measured.start, *measured.steps)
    curves = {
        f"measured on {asked.backend}": [step.loss for step in everything],
        "exact, same angles (not used)": [step.exact_loss for step in everything],
    }
    cost, step = measured.cost, measured.plan.step
    table = Table(
        "Cost",
        ("", "circuits", "shots", "estimated processor time (s)"),
        (
            ("one step, as planned", step.circuits, step.shots, step.seconds),
            ("the whole run", cost.circuits, cost.shots, cost.seconds),
        ),
    )
    words = f"{len(measured.steps)} steps of {asked.optimizer}, mitigation: {asked.mitigation}"
    kept = {"last": "the last ones", "average": "an average over the last steps", "start": "those of the start"}
    panel = Panel(
        "learning_curve",
        f"{words}. The angles kept are {kept[measured.kept]}; their loss was measured with more shots.",
        f"Loss falls from {measured.start.loss:.3g} to {measured.final.loss:.3g} as measured.",
        figures.training_curve(curves, bound=bound),
    )
    return Section(title=f"Training on {asked.backend}", tables=(table,), panels=(panel,))
