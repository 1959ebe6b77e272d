"""Optimisers of qiskit-machine-learning, asked to report each of their steps.

``adam``      a loss and a gradient a step; shot noise averages out over steps.
``spsa``      two losses a step, at random opposite shifts of all angles, and no gradient; it first spends 50 losses on
              its own step sizes where no learning rate is given.
``l_bfgs_b``  a loss and a gradient for each point of its line search; for exact values or very many shots.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, SupportsFloat, get_args

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import MissingDependencyError
from qiskit_qff.model.config import OptimizerName

NAMES: tuple[str, ...] = get_args(OptimizerName)
ADAM_RATE, ADAM_WARM_RATE = 0.05, 0.01
"""Default learning rates of Adam in radians a step, from random angles and from a start that is good already."""
SPSA_CALIBRATION = 50
"""Losses that SPSA measures to find its step sizes."""
_SPSA_SHIFT = 0.1
"""Random shift of SPSA in radians where the learning rate is given."""


class _StepsDone(Exception):  # noqa: N818
    """Ends SPSA after its last step."""


class Problem(Protocol):
    """What an optimiser may ask."""

    def value(self, angles: Any) -> float:
        """Loss of some angles, shape ``(n_angles,)``."""
        ...  # pragma: no cover

    def slopes(self, angles: Any) -> FloatArray:
        """dL/dθ, shape ``(n_angles,)``."""
        ...  # pragma: no cover


OnStep = Callable[[FloatArray, float], None]
"""Called after every step with the new angles and a loss: the one there, or for SPSA the mean of its two."""


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which optimiser, how long, how fast."""

    name: str
    """One of :data:`NAMES`."""
    steps: int
    """Most steps."""
    learning_rate: float | None = None
    """Step size of Adam and SPSA; None for the default."""
    seed: int = 0
    """Seed of SPSA's random directions."""


def optimise(
    problem: Problem, start: FloatArray, settings: OptimizerSettings, *, warm: bool, on_step: OnStep
) -> FloatArray:
    """Minimise with an optimiser of qiskit-machine-learning.

    Args:
        problem: Loss and gradient.
        start: Initial angles, shape ``(n_angles,)``.
        settings: The optimiser.
        warm: Whether the start is good already.
        on_step: Told of every step.

    Returns:
        Final angles, shape ``(n_angles,)``.

    Raises:
        MissingDependencyError: If qiskit-machine-learning is not installed.
    """
    try:
        import qiskit_machine_learning.optimizers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "training on a backend needs qiskit-machine-learning: pip install qiskit-machine-learning"
        ) from error
    if settings.name == "adam":
        return _adam(problem, start, settings, warm=warm, on_step=on_step)
    run = _spsa if settings.name == "spsa" else _l_bfgs_b
    return run(problem, start, settings, on_step)


def _adam(
    problem: Problem, start: FloatArray, settings: OptimizerSettings, *, warm: bool, on_step: OnStep
) -> FloatArray:
    from qiskit_machine_learning.optimizers import ADAM

    optimizer = ADAM(
        maxiter=settings.steps,
        tol=0.0,
        lr=settings.learning_rate or (ADAM_WARM_RATE if warm else ADAM_RATE),
        callback=lambda _, angles, loss: on_step(np.array(angles), float(loss)),
    )
    return np.array(optimizer.minimize(problem.value, start, jac=problem.slopes).x)


def _spsa(problem: Problem, start: FloatArray, settings: OptimizerSettings, on_step: OnStep) -> FloatArray:
    from qiskit_machine_learning.optimizers import SPSA
    from qiskit_machine_learning.utils import algorithm_globals

    final, count = start, 0

    def after_step(_: int, angles: FloatArray, loss: float, __: SupportsFloat, ___: bool) -> bool:  # noqa: FBT001
        nonlocal final, count
        final = np.array(angles)
        on_step(final, float(loss))
        count += 1
        if count == settings.steps:
            # The library would measure the loss once more before it returns.
            raise _StepsDone
        return False

    rate = settings.learning_rate
    optimizer = SPSA(
        maxiter=settings.steps,
        learning_rate=rate,
        perturbation=None if rate is None else _SPSA_SHIFT,
        # Its callback would measure one more loss a step; the check for termination is told the same for free.
        termination_checker=after_step,
    )
    # The library draws its directions from a generator of its own, global one.
    algorithm_globals.random_seed = settings.seed
    with suppress(_StepsDone):
        optimizer.minimize(problem.value, start)
    return final


def _l_bfgs_b(problem: Problem, start: FloatArray, settings: OptimizerSettings, on_step: OnStep) -> FloatArray:
    from qiskit_machine_learning.optimizers import L_BFGS_B

    optimizer = L_BFGS_B(
        maxiter=settings.steps,
        callback=lambda angles: on_step(np.array(angles), problem.value(np.array(angles))),
    )
    with warnings.catch_warnings():
        # The library sets an option of SciPy's that SciPy is about to drop.
        warnings.filterwarnings("ignore", message=".*iprint.*", category=DeprecationWarning)
        return np.array(optimizer.minimize(problem.value, start, jac=problem.slopes).x)
