r"""The textbook strategy: one prepared state per atom; forces by parameter shift on the encoding angles.

The energy of an atom is :math:`E = \lVert x\rVert^2 e(\varphi(x))` with e the expectation value and φ the
loader's angles, so

.. math:: \frac{\partial E}{\partial x_j} = 2 x_j e
          + \lVert x\rVert^2 \sum_g \frac{\partial e}{\partial\varphi_g}\frac{\partial\varphi_g}{\partial
          x_j}.

Where a branch of the tree is empty the angles do not respond; there the exact two-point rule of a quadratic
form serves,
:math:`\partial E/\partial x_j = [E(x + t e_j) - E(x - t e_j)]/2t` with t the norm of x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.array_types import FloatArray, IntArray
from qiskit_qff.circuit.ansatz import BoundProgram
from qiskit_qff.encoding.tree import dead_amplitudes, loader_jacobian, normalise, tree_layout
from qiskit_qff.evaluators.protocol import Evaluation, Request
from qiskit_qff.evaluators.tasks import (
    loader_parameters,
    loader_task,
    shift_derivatives,
    shift_variances,
    shifted_parameters,
)


@dataclass(frozen=True, eq=False)
class MeasuredGradients:
    """Energies of environments and their derivatives with respect to the amplitudes."""

    energies: FloatArray
    """``x^T M x`` in eV, shape ``(batch,)``."""
    gradients: FloatArray
    """dE/dx in eV, shape ``(batch, 2**n)``."""
    energy_variances: FloatArray
    """Variances of the energies in eV², shape ``(batch,)``."""
    covariances: FloatArray
    """Covariances of the gradient of each environment in eV², shape ``(batch, 2**n, 2**n)``."""


def gradient_requests(bound: BoundProgram, amplitudes: FloatArray, *, used: int | None = None) -> list[Request]:
    """What has to be measured to know energies and dE/dx of amplitudes ``(batch, 2**n)``.

    One parameter set, and two more per encoding angle, of every environment. Only the first ``used`` amplitudes ever
    differ from zero: derivatives by the others are not needed, and may be left zero.
    """
    program, layout = bound.program, tree_layout(bound.program.n_amplitudes)
    parameters = loader_parameters(program, amplitudes, bound.theta)
    rows, _, probes = _dead_probes(bound, amplitudes, used)
    task = loader_task(program)
    requests = [Request(task, parameters), Request(task, shifted_parameters(parameters, range(layout.n_gates)))]
    if len(rows):
        requests.append(Request(task, loader_parameters(program, probes, bound.theta)))
    return requests


def gradients_of(
    bound: BoundProgram, amplitudes: FloatArray, results: Sequence[Evaluation], *, used: int | None = None
) -> MeasuredGradients:
    """Energies and dE/dx from the answers to :func:`gradient_requests`."""
    layout = tree_layout(bound.program.n_amplitudes)
    norms = normalise(amplitudes)[1]
    rows, columns, _ = _dead_probes(bound, amplitudes, used)
    (value, variance), (shift_value, shift_variance) = (result.weighted(bound.weights) for result in results[:2])
    slopes = shift_derivatives(shift_value, n_columns=layout.n_gates)
    slope_variances = shift_variances(shift_variance, n_columns=layout.n_gates)
    jacobian = loader_jacobian(layout, amplitudes)
    squared = norms[:, None] ** 2
    gradients = 2.0 * amplitudes * value[:, None] + squared * np.einsum("bg,bgj->bj", slopes, jacobian)
    weighted = jacobian * (squared * np.sqrt(slope_variances))[:, :, None]
    covariances = weighted.transpose(0, 2, 1) @ weighted
    covariances += 4.0 * variance[:, None, None] * amplitudes[:, :, None] * amplitudes[:, None, :]
    if len(rows):
        # The probes have norm sqrt(2) |x|, so (E+ - E-)/2t = |x| (e+ - e-).
        probe_value, probe_variance = results[2].weighted(bound.weights)
        pairs, pair_variances = probe_value.reshape(-1, 2), probe_variance.reshape(-1, 2)
        gradients[rows, columns] = norms[rows] * (pairs[:, 0] - pairs[:, 1])
        covariances[rows, columns, columns] = norms[rows] ** 2 * pair_variances.sum(axis=1)
    return MeasuredGradients(value * norms**2, gradients, variance * norms**4, covariances)


def _dead_probes(
    bound: BoundProgram, amplitudes: FloatArray, used: int | None
) -> tuple[IntArray, IntArray, FloatArray]:
    """Environments and amplitudes in empty branches, and the states x ± |x| e_j that replace their angles."""
    rows, columns = np.nonzero(dead_amplitudes(tree_layout(bound.program.n_amplitudes), amplitudes)[:, :used])
    steps = np.linalg.norm(amplitudes[rows], axis=1)
    probes = np.repeat(amplitudes[rows], 2, axis=0)
    probes[0::2][np.arange(len(rows)), columns] += steps
    probes[1::2][np.arange(len(rows)), columns] -= steps
    return rows, columns, probes
