"""Training without frames that came apart: the same frames are meant in the run, and in its results."""

import json

import numpy as np
import pytest
import yaml
from ase.io import read, write
from fitting import DESCRIPTOR

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import missing_bonds, read_frames, shipped_path

SMALL = {
    "descriptor": DESCRIPTOR,
    "max_parameters": 12,
}


def test_frames_that_came_apart_are_neither_trained_on_nor_held_out(tmp_path, capsys):
    data, out = tmp_path / "data.extxyz", tmp_path / "run"
    write(data, read(shipped_path("limof5"), ":16"))
    frames = read_frames(data)
    broken = missing_bonds(frames)
    whole = [frame for index, frame in enumerate(frames) if index not in broken]
    assert 0 < len(broken) < len(whole)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALL | {"data": {"path": str(data), "framework": "whole"}}))
    assert run(["train", str(tmp_path / "config.yaml"), "--out", str(out), "--json"]) == 0
    capsys.readouterr()
    told = json.loads((out / "metrics.json").read_text())
    assert sorted([*told["train_frames"], *told["test_frames"]]) == list(range(len(whole)))
    # Errors are those of whole frames, by the model as it was saved.
    field = ForceField.load(out / "model.json")
    errors = np.concatenate([whole[k].forces - field.predict(whole[k]).forces for k in told["test_frames"]])
    assert 1e3 * np.abs(errors).mean() == pytest.approx(told["test"]["force_mae_mev_per_ang"], rel=1e-9)
