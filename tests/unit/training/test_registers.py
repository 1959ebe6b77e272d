"""Registers of every size: what they count, that they fit alike, and that what is large is said to be so."""

import numpy as np
import pytest
from ase.io import write
from fitting import fitted

from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.training import objective

SMALL = {
    "descriptor": {"r_cut": 4.0, "n_radial": 2, "l_max": 1, "products": 0},
}


@pytest.fixture(scope="module")
def frames():
    return read_shipped()[:3]


def config_of(n_qubits, max_parameters=40, **changes):
    return parse_config(
        {**SMALL, "circuit": {"n_qubits": n_qubits}, "max_parameters": max_parameters, **changes}, where="test"
    )


@pytest.fixture(scope="module")
def results(frames):
    """What training makes of the same channels with registers of several sizes."""
    return {n: fitted(frames, config_of(n), rng=np.random.default_rng(0)) for n in (1, 2, 3, 4, 6)}


@pytest.mark.parametrize("n_qubits", [1, 2, 3, 4])
def test_a_feature_counts_one_whatever_the_register(results, n_qubits):
    field = results[n_qubits].force_field
    features = [model.compression.n_features for model in field.models]
    assert field.n_trainable == sum(features) + field.ledger.reference_energies == 40
    largest = 2**n_qubits - 1
    for model, count in zip(field.models, features, strict=True):
        held = [register.n_features for register in model.registers]
        assert held == [largest] * (count // largest) + [count % largest] * (count % largest > 0)
        assert {register.n_qubits for register in model.registers} == {n_qubits}


def test_registers_of_every_size_fit_alike(results):
    losses = np.array([result.loss for result in results.values()])
    assert losses.max() < 1.02 * losses.min()  # 1.016 on one kind of processor, below 1.01 on another
    forces = [result.force_field.predict(read_shipped()[7]).forces for result in results.values()]
    spread = np.sqrt(np.mean((forces[0] - np.mean(forces, axis=0)) ** 2) / np.mean(np.square(forces[0])))
    assert spread < 0.1


def test_more_parameters_than_the_claim_are_trained_and_said_to_be_more(trained, frames, tmp_path, qff, monkeypatch):
    monkeypatch.setattr(objective, "RESTARTS", 1)
    large = fitted(frames[:2], config_of(2, 100), rng=np.random.default_rng(0)).force_field
    large.save(tmp_path / "large.json")
    write(tmp_path / "large.extxyz", frames[0].to_atoms())
    small = ForceField.load(trained / "run" / "model.json")
    for model, data, field in (
        (tmp_path / "large.json", tmp_path / "large.extxyz", large),
        (trained / "run" / "model.json", trained / "data.extxyz", small),
    ):
        for command in (["info", model], ["evaluate", model, data], ["calibrate", model, "--backend", "exact"]):
            out = ["--out", tmp_path / f"{data.stem}-measured.json"] if command[0] == "calibrate" else []
            told, words = qff(*command, *out)
            assert (told["n_trainable"], told["beyond_claim"]) == (field.n_trainable, field is large)
            words = " ".join(words.split())
            assert f"{field.n_trainable} trainable parameters" in words
            assert ("more than the 99 of the package's claim" in words) == (field is large)
            if command[0] == "info":
                assert told["n_registers"] == len(field.registers)
    assert large.n_trainable == 100
