"""``qff train`` and :func:`qiskit_qff.train` make the same model, number for number, whatever the run is asked by."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from qiskit_qff import load_config, train
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.training import pipeline


@pytest.fixture(scope="module")
def data(alloy_frames, tmp_path_factory):
    """Small cells of an alloy, and one metal with atoms enough for products and the longer cutoff; few of them."""
    directory = tmp_path_factory.mktemp("data")
    write(directory / "alloy.extxyz", alloy_frames)
    random, frames = np.random.default_rng(7), []
    for _ in range(6):
        atoms = bulk("Ni", cubic=True) * (2, 2, 3)
        atoms.rattle(0.1, rng=random)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(directory / "nickel.extxyz", 10 * frames)
    write(directory / "few_nickel.extxyz", frames)
    return directory


def written(out) -> dict:
    """The model file that a run wrote."""
    return json.loads((out / "model.json").read_text())


def saved(trained, tmp_path) -> dict:
    """The model file of a run in Python."""
    trained.force_field.save(tmp_path / "python.json")
    return json.loads((tmp_path / "python.json").read_text())


@pytest.mark.parametrize(("name", "cutoff", "products"), [("alloy", 5.0, 0), ("few_nickel", 6.0, 2)])
def test_a_data_file_with_options(data, tmp_path, qff, monkeypatch, name, cutoff, products) -> None:
    # Thresholds that six frames of nickel reach and the alloy does not.
    monkeypatch.setattr(pipeline, "ATOMS_PER_ELEMENT", 200)
    monkeypatch.setattr(pipeline, "PRODUCT_ATOMS", 200)
    path, config = data / f"{name}.extxyz", tmp_path / "run" / "config.yaml"
    options = ["--max-parameters", 15, "--seed", 3, "--split", "block"]
    settings = {"max_parameters": 15, "seed": 3, "data": {"split": "block"}}
    told, _ = qff("train", path, "--out", tmp_path / "run", *options)
    trained = train(path, TrainConfig.model_validate(settings))
    assert written(tmp_path / "run") == saved(trained, tmp_path)
    assert (trained.data.config.descriptor.r_cut, trained.data.config.descriptor.products) == (cutoff, products)
    for part in ("test", "linear_test"):
        assert told[part]["force_mae_mev_per_ang"] == trained.metrics[part].force_mae_mev_per_ang
    # The configuration that the run wrote is whole, is what --write-config writes, and gives the same model again.
    qff("train", path, "--write-config", tmp_path / "mine.yaml", *options)
    assert load_config(tmp_path / "mine.yaml") == load_config(config)
    qff("train", config, "--out", tmp_path / "again")
    assert written(tmp_path / "again") == written(tmp_path / "run")


def test_structures_in_memory_give_the_same_numbers(data, tmp_path) -> None:
    config = TrainConfig.model_validate({"max_parameters": 15, "descriptor": {"l_max": 1}})
    from_file = saved(train(data / "alloy.extxyz", config), tmp_path)
    from_atoms = saved(train(read(data / "alloy.extxyz", ":"), config), tmp_path)
    assert from_file["metadata"]["config"]["data"].pop("path") == str(data / "alloy.extxyz")
    assert from_atoms["metadata"]["config"]["data"].pop("path") is None
    assert from_atoms == from_file


def test_a_dry_run_shows_what_the_data_decided(data, tmp_path, qff) -> None:
    told, errors = qff("train", data / "nickel.extxyz", "--out", tmp_path / "run", "--dry-run")
    assert told["config"]["descriptor"]["r_cut"] == 6.0
    assert told["reasons"]["descriptor.r_cut"] == "2,304 training atoms per element, at least 1,800"
    assert "descriptor.products = 2: 2,304 training atoms, at least 1,000" in errors
    assert not list(tmp_path.iterdir())


def test_a_written_configuration_is_explained_and_replaces_none(data, tmp_path, qff) -> None:
    command = ["train", data / "alloy.extxyz", "--write-config", tmp_path / "mine.yaml"]
    qff(*command)
    text = (tmp_path / "mine.yaml").read_text()
    assert "r_cut: 5.0" in text
    assert "fewer than 1,800" in text
    assert "exists" in qff(*command, code=2)[1]
