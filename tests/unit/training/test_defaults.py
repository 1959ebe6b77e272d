"""What the data decide where the configuration leaves it open."""

import pytest

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import DescriptorConfig, parse_config
from qiskit_qff.training.pipeline import ATOMS_PER_ELEMENT, PRODUCT_ATOMS, PRODUCTS, resolve_config
from qiskit_qff.training.trainer import MAX_POOL, fit_pool


@pytest.mark.parametrize(
    ("names", "given", "many", "few"),
    [
        (("r_cut", "n_radial"), {}, (6.0, 7), (5.0, 5)),
        (("r_cut", "n_radial"), {"r_cut": 4.5}, (4.5, 5), (4.5, 5)),
        (("r_cut", "n_radial"), {"r_cut": 5.0}, (5.0, 5), (5.0, 5)),
        (("r_cut", "n_radial"), {"n_radial": 4}, (6.0, 4), (5.0, 4)),
        (("r_cut", "n_radial"), {"l_max": 2}, (6.0, 7), (5.0, 5)),
        (("products",), {}, (PRODUCTS,), (0,)),
        (("products",), {"products": 0}, (0,), (0,)),
        (("products",), {"products": 1}, (1,), (1,)),
        (("products",), {"r_cut": 5.0}, (PRODUCTS,), (0,)),
    ],
)
def test_descriptors_follow_the_data_unless_they_were_given(frames, names, given, many, few):
    frame, config = frames[0], parse_config({"descriptor": given}, where="test")
    atoms = PRODUCT_ATOMS if names == ("products",) else ATOMS_PER_ELEMENT * len(set(frame.symbols))
    count = -(-atoms // frame.n_atoms)
    for number, expected in ((count, many), (count - 1, few)):
        found = resolve_config(config, [frame] * number)[0]
        assert tuple(getattr(found.descriptor, name) for name in names) == expected
        # What is written down is read back as given, and stays.
        again = parse_config(found.model_dump(mode="json"), where="test")
        assert resolve_config(again, [frame])[0].descriptor == found.descriptor
        assert resolve_config(found, [frame] * (2 * count))[0] == found


def test_a_pool_that_would_be_too_large_is_lowered_but_not_what_was_given():
    free = DescriptorConfig(n_radial=5)
    lowered = fit_pool(free, 6, lower=True).n_radial
    assert lowered < 5
    settings = fit_pool(DescriptorConfig(n_radial=lowered), 6)
    assert settings.n_radial == lowered
    assert 6 * settings.n_channels(6) <= MAX_POOL
    with pytest.raises(ConfigError, match=r"n_radial 9, l_max 4.*Lower n_radial or l_max"):
        fit_pool(DescriptorConfig(n_radial=9), 6)
