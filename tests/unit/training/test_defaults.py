"""What the data decide where the configuration leaves it open."""

import pytest

from qiskit_qff.model.config import parse_config
from qiskit_qff.training.defaults import ATOMS_PER_ELEMENT, PRODUCT_ATOMS, PRODUCTS, resolve_config


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
        found = resolve_config(config, [frame] * number)[0]
        assert (found.descriptor.r_cut, found.descriptor.n_radial) == expected
        # What is written down is read back as given, and stays.
        again = parse_config(found.model_dump(mode="json"), where="test")
        assert resolve_config(again, [frame])[0].descriptor == found.descriptor
        assert resolve_config(found, [frame] * (2 * count))[0] == found


@pytest.mark.parametrize(
    ("given", "many", "few"),
    [
        ({}, PRODUCTS, 0),
        ({"descriptor": {"products": 0}}, 0, 0),
        ({"descriptor": {"products": 1}}, 1, 1),
        ({"descriptor": {"r_cut": 5.0}}, PRODUCTS, 0),
    ],
)
def test_products_of_channels_follow_the_data_unless_they_were_given(frames, given, many, few):
    frame, config = frames[0], parse_config(given, where="test")
    count = -(-PRODUCT_ATOMS // frame.n_atoms)
    for number, expected in ((count, many), (count - 1, few)):
        found = resolve_config(config, [frame] * number)[0]
        assert found.descriptor.products == expected
        assert resolve_config(found, [frame] * (2 * count))[0].descriptor.products == expected
