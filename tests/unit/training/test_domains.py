"""The training domain does not depend on who sums."""

import numpy as np

from qiskit_qff.model.config import parse_config
from qiskit_qff.training.statistics import training_domains
from qiskit_qff.training.trainer import prepare


def test_parts_merge_to_the_same_domain(frames):
    config = parse_config(
        {"descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "n_radial": 2, "l_max": 1}, "max_parameters": 20},
        where="test",
    )
    prepared = prepare(frames, config)
    parts = training_domains(frames, prepared.maps, r_cut=4.0, progress=lambda *_: None, threads=3)
    assert set(parts) == set(prepared.domains) == {10, 18}
    for number, whole in prepared.domains.items():
        assert parts[number].count == whole.count == sum(np.count_nonzero(f.numbers == number) for f in frames)
        np.testing.assert_allclose(parts[number].moments, whole.moments, rtol=1e-10, atol=1e-14)
        assert np.isclose(parts[number].largest, whole.largest, rtol=1e-9)
        np.testing.assert_allclose(parts[number].reach, whole.reach, rtol=1e-6, atol=1e-9)
