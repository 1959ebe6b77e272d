"""``qff train`` with helpers: the same model, and one line where they make no sense."""

import json
import shutil

import pytest
import yaml

from qiskit_qff.cli.main import run


def test_processes_give_the_same_model(trained, tmp_path):
    # Without products: sums are equal but for rounding, and among thousands of channels for few labels it decides.
    config = yaml.safe_load((trained / "config.yaml").read_text())
    config["descriptor"] = config.get("descriptor", {}) | {"products": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(trained / "data.extxyz", tmp_path)
    for name, options in (("alone", []), ("run", ["--processes", "2"])):
        assert run(["train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / name), *options]) == 0
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "alone"))
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
    assert ours["n_trainable"] == theirs["n_trainable"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "0"], "--processes"),
        (["--processes", "2", "--dask", "tcp://node:8786"], "give one of them"),
        (["--processes", "2", "--backend", "statevector"], "leave them or --backend out"),
    ],
)
def test_wrong_helpers_are_one_line(trained, tmp_path, capsys, options, message):
    assert run(["train", str(trained / "config.yaml"), "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
