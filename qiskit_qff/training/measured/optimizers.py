"""Gauss-Newton with measured derivatives, and optimisers of qiskit-machine-learning that report each of their steps.

``gauss_newton``  the default: a few steps, because the derivatives of all M give the curvature of the loss too
``adam``          follows the gradient; needs no curvature, and hundreds of steps
``spsa``          two losses a step, at random opposite shifts of all angles, and no gradient; it first spends 50 losses
                  on its own step sizes where no learning rate is given
``l_bfgs_b``      a gradient at each point of its line search; for exact values or very many shots
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, SupportsFloat

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import MissingDependencyError
from qiskit_qff.model.config import EstimatorConfig

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

    def improved(self, angles: Any) -> FloatArray:
        """Angles after a Gauss-Newton step, shape ``(n_angles,)``."""
        ...  # pragma: no cover


OnStep = Callable[[FloatArray, float], None]
"""Called after every step with the new angles and a loss: the one there, or for SPSA the mean of its two."""


def optimise(
    problem: Problem, start: FloatArray, asked: EstimatorConfig, *, warm: bool, seed: int, on_step: OnStep
) -> FloatArray:
    """Minimise with the optimiser of a configuration.

    Args:
        start: Initial angles, shape ``(n_angles,)``.

    Returns:
        Final angles, shape ``(n_angles,)``.
    """
    if asked.optimizer == "gauss_newton":
        angles = start
        for _ in range(asked.steps):
            angles = problem.improved(angles)
            on_step(angles, problem.value(angles))
        return angles
    try:
        import qiskit_machine_learning.optimizers  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"estimator.optimizer {asked.optimizer} needs qiskit-machine-learning: pip install qiskit-machine-learning"
        ) from error
    if asked.optimizer == "spsa":
        return _spsa(problem, start, asked, seed, on_step)
    if asked.optimizer == "adam":
        return _adam(problem, start, asked, ADAM_WARM_RATE if warm else ADAM_RATE, on_step)
    return _l_bfgs_b(problem, start, asked, on_step)


def _adam(problem: Problem, start: FloatArray, asked: EstimatorConfig, rate: float, on_step: OnStep) -> FloatArray:
    from qiskit_machine_learning.optimizers import ADAM

    optimizer = ADAM(
        maxiter=asked.steps,
        tol=0.0,
        lr=asked.learning_rate or rate,
        callback=lambda _, angles, loss: on_step(np.array(angles), float(loss)),
    )
    return np.array(optimizer.minimize(problem.value, start, jac=problem.slopes).x)


def _spsa(problem: Problem, start: FloatArray, asked: EstimatorConfig, seed: int, on_step: OnStep) -> FloatArray:
    from qiskit_machine_learning.optimizers import SPSA
    from qiskit_machine_learning.utils import algorithm_globals

    final, count = start, 0

    def after_step(_: int, angles: FloatArray, loss: float, __: SupportsFloat, ___: bool) -> bool:  # noqa: FBT001
        nonlocal final, count
        final = np.array(angles)
        on_step(final, float(loss))
        count += 1
        if count == asked.steps:
            # The library would measure the loss once more before it returns.
            raise _StepsDone
        return False

    optimizer = SPSA(
        maxiter=asked.steps,
        learning_rate=asked.learning_rate,
        perturbation=None if asked.learning_rate is None else _SPSA_SHIFT,
        # Its callback would measure one more loss a step; the check for termination is told the same for free.
        termination_checker=after_step,
    )
    # The library draws its directions from a generator of its own, global one.
    algorithm_globals.random_seed = seed
    with suppress(_StepsDone):
        optimizer.minimize(problem.value, start)
    return final


def _l_bfgs_b(problem: Problem, start: FloatArray, asked: EstimatorConfig, on_step: OnStep) -> FloatArray:
    from qiskit_machine_learning.optimizers import L_BFGS_B

    optimizer = L_BFGS_B(
        maxiter=asked.steps,
        callback=lambda angles: on_step(np.array(angles), problem.value(np.array(angles))),
    )
    with warnings.catch_warnings():
        # The library sets an option of SciPy's that SciPy is about to drop.
        warnings.filterwarnings("ignore", message=".*iprint.*", category=DeprecationWarning)
        return np.array(optimizer.minimize(problem.value, start, jac=problem.slopes).x)
