"""What the data decide where the configuration leaves it open."""

from dataclasses import replace

import numpy as np
import pytest
from ase.data import atomic_numbers

from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.defaults import ATOMS_PER_ELEMENT, PRODUCTS, RARE, SOME_ATOMS, with_data_defaults
from qiskit_qff.training.trainer import loss_weights, train


@pytest.mark.parametrize(
    ("given", "many", "few"),
    [
        ({}, (6.0, 7), (5.0, 5)),
        ({"r_cut": 4.5}, (4.5, 5), (4.5, 5)),
        ({"r_cut": 5.0}, (5.0, 5), (5.0, 5)),
        ({"n_radial": 4}, (6.0, 4), (5.0, 4)),
        ({"l_max": 2}, (6.0, 7), (5.0, 5)),
    ],
)
def test_the_cutoff_follows_the_data_unless_it_was_given(frames, given, many, few):
    frame, config = frames[0], parse_config({"descriptor": given}, where="test")
    count = -(-ATOMS_PER_ELEMENT * len(set(frame.symbols)) // frame.n_atoms)
    for number, expected in ((count, many), (count - 1, few)):
        found = with_data_defaults(config, [frame] * number)
        assert (found.descriptor.r_cut, found.descriptor.n_radial) == expected
        # What is written down is read back as given, and stays.
        again = parse_config(found.model_dump(mode="json"), where="test")
        assert with_data_defaults(again, [frame]).descriptor == found.descriptor
        assert with_data_defaults(found, [frame] * (2 * count)) == found


@pytest.mark.parametrize(
    ("given", "many", "few"),
    [
        ({}, PRODUCTS, 0),
        ({"descriptor": {"products": 0}}, 0, 0),
        ({"descriptor": {"products": 1}}, 1, 1),
        ({"descriptor": {"r_cut": 5.0}}, PRODUCTS, 0),
        ({"compression": {"method": "pca"}}, 0, 0),
    ],
)
def test_products_of_channels_follow_the_data_unless_they_were_given(frames, given, many, few):
    frame, config = frames[0], parse_config(given, where="test")
    count = -(-SOME_ATOMS // frame.n_atoms)
    for number, expected in ((count, many), (count - 1, few)):
        found = with_data_defaults(config, [frame] * number)
        assert found.descriptor.products == expected
        assert with_data_defaults(found, [frame] * (2 * count)).descriptor.products == expected


def test_forces_of_rare_elements_weigh_more_unless_weights_were_given():
    frames = read_shipped()[:3]
    config = parse_config({}, where="test")
    found = with_data_defaults(config, frames).loss.element_weights
    numbers = np.concatenate([f.numbers for f in frames])
    shares = {symbol: np.mean(numbers == atomic_numbers[symbol]) for symbol in found}
    assert shares["Li"] < RARE
    assert sum(found[s] * shares[s] for s in found) == pytest.approx(1.0, abs=1e-3)
    assert found["Li"] / found["C"] == pytest.approx(np.sqrt(shares["C"] / shares["Li"]), rel=2e-3)
    weights = loss_weights(with_data_defaults(config, frames)).force_weights(frames[0].numbers)
    plain = loss_weights(config).force_weights(frames[0].numbers)
    np.testing.assert_allclose(weights / plain, [found[s] for s in frames[0].symbols for _ in range(3)])
    for given in ({}, {"Li": 2.0}):
        chosen = parse_config({"loss": {"element_weights": given}}, where="test")
        assert with_data_defaults(chosen, frames).loss.element_weights == given
    assert not with_data_defaults(config, read_shipped("li6ps5cl")[:3]).loss.element_weights


def test_a_heavier_element_is_fitted_better():
    frames, errors = read_shipped()[:6], {}
    small = {"max_parameters": 40, "optimizer": {"restarts": 1}, "descriptor": {"r_cut": 4.0, "l_max": 1}}
    for given in ({}, {"Li": 100.0}):
        config = parse_config(small | {"loss": {"element_weights": given}}, where="test")
        field = train(frames, config, rng=np.random.default_rng(0)).force_field
        errors[bool(given)] = np.mean(
            [np.square(field.predict(f).forces - f.forces)[f.numbers == atomic_numbers["Li"]].mean() for f in frames]
        )
    assert errors[True] < 0.5 * errors[False]


def test_only_the_number_of_atoms_counts(frames):
    config = parse_config({}, where="test")
    moved = [replace(f, positions=f.positions + np.array([0.1, 0.0, 0.0]), energy=None) for f in frames]
    assert with_data_defaults(config, frames) == with_data_defaults(config, moved)
