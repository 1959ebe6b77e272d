"""What ``qff train`` says of training on a backend: the cost before, every step, and where it ended."""

from pathlib import Path
from typing import TYPE_CHECKING

from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.training.measured.run import MeasuredTraining, Step, TrainingPlan

if TYPE_CHECKING:
    from qiskit_qff.model.config import EstimatorConfig

JOURNAL = "journal.json"
STATEVECTOR_NOISE = (
    "statevector adds normal noise of the precision that the shots stand for, up to 2.4 times what such shots would "
    "give; aer and exact draw shots"
)


def check_journal(out: Path, *, resume: bool, force: bool) -> None:
    """Keep what was measured from being overwritten."""
    journal = out / JOURNAL
    if resume and not journal.is_file():
        raise ConfigError(f"--resume: {journal} does not exist; leave --resume out to begin.")
    if journal.exists() and not (resume or force):
        raise ConfigError(
            f"--out {out}: holds {JOURNAL}, the measurements of an earlier run. Add --resume to go on with it, "
            "--force to begin anew, or choose another directory."
        )


def tell_measured(measured: MeasuredTraining, output: Output) -> None:
    """Say where training on a backend began and ended, and what it cost."""
    output.say(
        f"loss on the backend: {measured.start.loss:.4g} at the start, {measured.final.loss:.4g} "
        f"± {measured.final.std_error:.2g} after {len(measured.steps)} steps (exact: {measured.start.exact_loss:.4g}, "
        f"{measured.final.exact_loss:.4g}); {_words(measured.cost)}"
    )


def tell_plan(plan: TrainingPlan, asked: "EstimatorConfig", output: Output) -> None:
    """Say what a step and the run will cost, before anything runs."""
    step = {"spsa": "two losses", "l_bfgs_b": "a loss and a gradient, more where its line search goes on"}
    each = step.get(asked.optimizer, "a loss and a gradient")
    output.say(f"{asked.backend}, {asked.optimizer}, mitigation {asked.mitigation}; a step is {each}")
    if asked.backend == "statevector" and asked.shots is not None:
        output.say(STATEVECTOR_NOISE)
    output.say(f"one step: {_words(plan.step)}")
    output.say(f"start, {plan.n_steps} steps and end: {_words(plan.total)}")


def tell_step(number: int, step: Step, output: Output) -> None:
    """Say what a step of the optimiser found."""
    output.note(
        f"step {number}: loss {step.loss:.4g} ± {step.std_error:.1g} (exact {step.exact_loss:.4g}), "
        f"{step.circuits} circuits so far"
    )


def _words(cost: Cost) -> str:
    """A cost in words."""
    if not cost.shots:
        return f"{cost.circuits:,} circuits, exact values"
    return f"{cost.circuits:,} circuits, {cost.shots:,} shots, about {cost.seconds:,.0f} s on a processor"
