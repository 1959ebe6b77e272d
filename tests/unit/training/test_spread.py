"""Draws of what the data leave open."""

import numpy as np
import pytest

from qiskit_qff.model.config import parse_config
from qiskit_qff.training.balance import reduced_parameters
from qiskit_qff.training.trainer import draw_spread, fit, prepare


def test_draws_have_the_covariance_of_the_curvature(frames, rng):
    config = parse_config(
        {
            "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "n_radial": 2, "l_max": 1},
            "loss": {"shots": None},
            "optimizer": {"restarts": 1},
            "max_parameters": 12,
        },
        where="test",
    )
    prepared = prepare(frames, config)
    best = fit(prepared, rng=rng).restarts[0].parameters
    objective = prepared.objective
    value = reduced_parameters(objective, best)[0].loss(reduced_parameters(objective, best)[1])
    drawn = draw_spread(objective, best, n_frames=len(frames), rng=rng, members=4000)
    energies = np.stack([spread.references for spread in drawn.values()], axis=1)
    changes = [*(spread.triangles for spread in drawn.values()), energies @ objective.statistics.references.directions]
    draws = np.concatenate(changes, axis=1)
    # Each direction adds L / N to the loss on average; none of them says nothing to the data.
    rise = np.einsum("ki,ij,kj->k", draws, objective.gram, draws).mean()
    assert rise == pytest.approx(objective.layout.n_trainable * value / len(frames), rel=0.03)
