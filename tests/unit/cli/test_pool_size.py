"""A pool of channels that would be too large is refused with its size, and what to change."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from qiskit_qff.cli.main import run
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import DescriptorConfig
from qiskit_qff.training.trainer import MAX_POOL, fit_pool

METALS = ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt", "H")


def test_eight_elements_are_too_many_for_the_default_pool(tmp_path, capsys):
    random, frames = np.random.default_rng(1), []
    for _ in range(6):
        atoms = bulk("Pd", cubic=True) * (2, 1, 1)
        atoms.symbols[:] = METALS
        atoms.positions += random.normal(0.0, 0.05, (8, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "data.extxyz", frames)
    assert run(["train", str(tmp_path / "data.extxyz"), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "8 elements make a pool of at least 9,984 channels" in error
    assert "more than 8,000" in error
    assert not (tmp_path / "run").exists()


def test_defaults_are_lowered_and_what_was_given_is_not():
    free = DescriptorConfig(n_radial=5)
    lowered = fit_pool(free, 6, lower=True).n_radial
    assert lowered < 5
    settings = fit_pool(DescriptorConfig(n_radial=lowered), 6)
    assert settings.n_radial == lowered
    assert 6 * settings.n_channels(6) <= MAX_POOL
    with pytest.raises(ConfigError, match=r"n_radial 9, l_max 4.*Lower n_radial or l_max"):
        fit_pool(DescriptorConfig(n_radial=9), 6)
