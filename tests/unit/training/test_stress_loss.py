"""Stresses in the loss: counted as they are predicted, whatever the axes, and only where they are asked for."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import DESCRIPTOR, fitted, prepare

from qiskit_qff.model.config import CircuitConfig, parse_config
from qiskit_qff.training.statistics import LossWeights

SCALE, NEON = 0.5, 2.5
"""Of stresses, and the weight of forces on neon."""
SMALL = {
    "descriptor": DESCRIPTOR,
    "circuit": {"n_qubits": 3},
    "max_parameters": 20,
}


def config(scale=SCALE, **loss):
    return parse_config(SMALL | {"loss": {"stress_scale_mev_per_ang3": scale, **loss}}, where="test")


def loss_by_hand(field, frames, weights):
    """The mean loss of frames from predictions, all nine components of the stress written out."""
    total = 0.0
    for frame in frames:
        found = field.predict(frame)
        total += ((found.energy - frame.energy) / (frame.n_atoms * weights.energy_scale)) ** 2
        labels = frame.forces - frame.forces.mean(axis=0)
        factors = np.where(frame.numbers == 10, NEON, 1.0)[:, None]
        total += np.mean(factors * (found.forces - labels) ** 2) / weights.force_scale**2
        if weights.stress_scale is not None and frame.stress is not None:
            total += np.mean((found.stress(frame.volume) - frame.stress) ** 2) / weights.stress_scale**2
    return total / len(frames)


@pytest.mark.parametrize("scale", [None, SCALE])
@pytest.mark.parametrize("labelled", [10, 4])
def test_loss_from_sums_equals_loss_from_predictions(frames, scale, labelled, rng) -> None:
    known = [frame if k < labelled else replace(frame, stress=None) for k, frame in enumerate(frames)]
    # Another volume, so that weights differ from frame to frame.
    known[0] = replace(known[0], cell=1.03 * known[0].cell, positions=1.03 * known[0].positions)
    # Readouts that are not balanced: angles and weights may be moved alone.
    circuit = CircuitConfig(family="brickwork_cz", readout="z_diagonal", n_qubits=2, layers=1, n_readouts=2)
    options = config(scale, element_weights={"Ne": NEON}).model_copy(update={"circuit": circuit})
    prepared = prepare(known, options)
    objective, weights = prepared.objective, LossWeights.of(prepared.config)
    start = fitted(known, options, rng=np.random.default_rng(0)).restarts[0].parameters
    for parameters in (start, start + 0.01 * rng.normal(size=len(start))):
        # Without the Tikhonov term, which the objective adds.
        from_sums = objective.statistics.equations.loss(objective.operator_vector(parameters))
        expected = loss_by_hand(prepared.force_field(parameters), known, weights)
        assert from_sums == pytest.approx(expected, rel=1e-6, abs=1e-8)
