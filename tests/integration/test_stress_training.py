"""Training on stresses by the command line: from the option to results, report and what npt says of the model."""

import json

import numpy as np
import pytest
from ase.io import read, write

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames

ERROR = "stress_rmse_mev_per_ang3"


@pytest.fixture(scope="module")
def fitted(trained, tmp_path_factory):
    """A run of the configuration of ``trained`` with stresses in its loss."""
    out = tmp_path_factory.mktemp("stresses") / "run"
    assert run(["train", str(trained / "config.yaml"), "--stress-scale", "0.5", "--out", str(out)]) == 0
    return out


def errors_of(directory):
    return json.loads((directory / "metrics.json").read_text())


def test_errors_of_stresses_fall_and_are_those_of_the_model(trained, fitted) -> None:
    before, after = errors_of(trained / "run"), errors_of(fitted)
    assert after["n_trainable"] == before["n_trainable"]
    assert (before["stresses_fitted"], after["stresses_fitted"]) == (0, 9)
    for side in ("train", "test"):
        assert after[side][ERROR] < 0.7 * before[side][ERROR]
    field, frames = ForceField.load(fitted / "model.json"), read_frames(trained / "data.extxyz")
    test = [frames[k] for k in after["test_frames"]]
    differences = [field.predict(f).stress(f.volume) - f.stress for f in test]
    upper = [d[np.triu_indices(3)] for d in differences]
    assert 1e3 * np.sqrt(np.mean(np.square(upper))) == pytest.approx(after["test"][ERROR], rel=1e-9)


def test_npt_and_training_say_which_models_know_stresses(trained, fitted, tmp_path, qff) -> None:
    structure, config = tmp_path / "start.extxyz", trained / "config.yaml"
    write(structure, read(trained / "data.extxyz", "0"))
    options = ["--temperature", 30, "--steps", 2, "--timestep", 1, "--ensemble", "npt"]
    for model, warned in ((fitted, False), (trained / "run", True)):
        _, errors = qff("md", model, structure, *options, "--out", tmp_path / f"{model.parent.name}-md")
        assert ("not to stresses" in errors) == warned
    _, errors = qff("train", config, "--out", tmp_path / "none", "--dry-run")
    assert "stresses of 9 of 9 training frames are not fitted" in errors
    for model, scale in ((fitted, 0.5), (trained / "run", None)):
        assert qff("info", model)[0]["stress_scale_mev_per_ang3"] == scale
