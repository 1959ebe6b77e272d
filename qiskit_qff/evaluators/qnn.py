r"""A force field's circuit as a neural network of qiskit-machine-learning.

The network takes the loader's angles as input and θ as weights, and returns the normalised energy
:math:`\langle\hat x|M|\hat x\rangle` of an environment; multiply it by :math:`\lVert x\rVert^2`. All of that
package's optimisers and gradients can then be used with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qiskit.primitives import BaseEstimatorV2

from qiskit_qff.circuit.ansatz import BoundProgram, diagonal_observable
from qiskit_qff.encoding.tree import loader_circuit
from qiskit_qff.errors import MissingDependencyError

if TYPE_CHECKING:
    from qiskit_machine_learning.neural_networks import EstimatorQNN


def to_qnn(bound: BoundProgram, estimator: BaseEstimatorV2, *, precision: float = 0.0) -> EstimatorQNN:
    """EstimatorQNN of one species, with gradients by parameter shift.

    Args:
        bound: Circuit and readout weights; its θ are the weights to pass to the network's ``forward``.
    """
    try:
        from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
        from qiskit_machine_learning.neural_networks import EstimatorQNN
    except ImportError as error:
        raise MissingDependencyError(
            "EstimatorQNN needs qiskit-machine-learning: pip install qiskit-machine-learning"
        ) from error
    loader = loader_circuit(bound.program.n_amplitudes)
    inputs, weights = list(loader.parameters), list(bound.program.circuit.parameters)
    return EstimatorQNN(
        circuit=loader.compose(bound.program.circuit),
        estimator=estimator,
        observables=[diagonal_observable(bound.weights @ bound.program.readouts)],
        input_params=inputs,
        weight_params=weights,
        gradient=ParamShiftEstimatorGradient(estimator),
        input_gradients=True,
        default_precision=precision,
    )
