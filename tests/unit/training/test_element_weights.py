"""Weights of elements: what they multiply, and that a heavier element is fitted better."""

import numpy as np
from ase.data import atomic_numbers
from fitting import fitted

from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.training.statistics import LossWeights

SMALL = {"max_parameters": 40, "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1}}


def lithium_error(field, frames):
    """Mean square error of the forces on lithium."""
    squares = [np.square(field.predict(f).forces - f.forces)[f.numbers == atomic_numbers["Li"]] for f in frames]
    return np.mean([own.mean() for own in squares])


def test_they_multiply_the_weights_of_forces():
    frame, given = read_shipped()[0], {"Li": 2.5, "C": 0.5}
    found, plain = (
        LossWeights.of(parse_config({"loss": {"element_weights": weights}}, where="test")).force_weights(frame.numbers)
        for weights in (given, {})
    )
    np.testing.assert_allclose(found / plain, [given.get(s, 1.0) for s in frame.symbols for _ in range(3)])


def test_a_heavier_element_is_fitted_better():
    frames, errors = read_shipped()[:6], {}
    for given in ({}, {"Li": 100.0}):
        config = parse_config(SMALL | {"loss": {"element_weights": given}}, where="test")
        errors[bool(given)] = lithium_error(fitted(frames, config, rng=np.random.default_rng(0)).force_field, frames)
    assert errors[True] < 0.5 * errors[False]
