r"""The matrices :math:`M_k` of every readout of a circuit, as a device measures them, with all their errors.

The operator strategy for each readout by itself: :math:`M = \sum_k w_k M_k` is then known for any weights, so
weights can be fitted to what was measured. The states' values fluctuate independently; the readouts of one
state do not, because they come from the same shots. Where the spectrum of :math:`M_k` is known, the measured
matrix is replaced by the nearest one that has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.circuit.program import BoundProgram, CircuitProgram
from qiskit_qff.evaluators.protocol import Cost, Evaluation, Evaluator, total_cost
from qiskit_qff.evaluators.strategies.operator import MeasuredOperator, assemble_pairs, pair_requests
from qiskit_qff.evaluators.strategies.spectrum import known_spectrum


@dataclass(frozen=True, eq=False)
class MeasuredReadouts:
    """All M_k of one circuit."""

    matrices: FloatArray
    """M_k, dimensionless, shape ``(n_readouts, 2**n, 2**n)``; zero beyond the program's amplitudes."""
    tangents: FloatArray
    """Derivatives of the upper triangle (of the amplitudes in use) with respect to every state's value, shape
    ``(n_readouts, n_entries, n_states)``."""
    covariances: FloatArray
    """Covariances of the readouts in every state, shape ``(n_states, n_readouts, n_readouts)``."""
    cost: Cost
    """What was spent."""


def measure_readouts(
    evaluators: Mapping[int, Evaluator],
    circuits: Sequence[tuple[CircuitProgram, FloatArray]],
    *,
    shots: int | None = None,
) -> list[MeasuredReadouts]:
    """Measure every M_k of several circuits: ``D (D + 1) / 2`` states for each of them.

    Args:
        evaluators: What measures circuits of a number of qubits; one call for all circuits of a size.
        circuits: Programs and their angles, shape ``(n_angles,)``.
        shots: Executions per state.
    """
    bounds = [BoundProgram(program, theta, np.ones(program.n_readouts)) for program, theta in circuits]
    found: dict[int, MeasuredReadouts] = {}
    for size, evaluator in evaluators.items():
        own = [index for index, bound in enumerate(bounds) if bound.program.n_qubits == size]
        requests = [pair_requests(bounds[index]) for index in own]
        results = evaluator.evaluate([request for group in requests for request in group], shots=shots)
        start = 0
        for index, group in zip(own, requests, strict=True):
            found[index] = _assemble(bounds[index], results[start : start + len(group)])
            start += len(group)
    return [found[index] for index in range(len(bounds))]


def _assemble(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredReadouts:
    """All M_k from the answers to the operator requests."""
    program = bound.program
    rows, columns = np.triu_indices(program.n_amplitudes)
    matrices, tangents = [], []
    for unit in np.eye(program.n_readouts):
        measured = _single(BoundProgram(program, bound.theta, unit), results)
        matrices.append(measured.matrix)
        tangents.append(measured.response[:, rows, columns].T)
    covariances = np.concatenate([result.covariances for result in results])
    return MeasuredReadouts(np.array(matrices), np.array(tangents), covariances, total_cost(results))


def _single(bound: BoundProgram, results: Sequence[Evaluation]) -> MeasuredOperator:
    """One M_k, with its spectrum where that is known."""
    measured = assemble_pairs(bound, results)
    spectrum = known_spectrum(bound)
    if spectrum is None:
        return measured
    # Matching sorted spectra is the nearest point in the Frobenius norm (Hoffman and Wielandt); only errors that mix
    # eigenvectors of different eigenvalues remain.
    used = np.s_[: len(spectrum), : len(spectrum)]
    known, vectors = np.sort(spectrum), np.linalg.eigh(measured.matrix[used])[1]
    movable = np.abs(known[:, None] - known) > 1e-9 * max(float(np.abs(known).max()), 1e-300)
    matrix, response = np.zeros_like(measured.matrix), np.zeros_like(measured.response)
    matrix[used] = (vectors * known) @ vectors.T
    turned = np.where(movable, vectors.T @ measured.response[(slice(None), *used)] @ vectors, 0.0)
    response[(slice(None), *used)] = vectors @ turned @ vectors.T
    return replace(measured, matrix=matrix, response=response)
