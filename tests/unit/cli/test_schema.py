"""``qff schema``: what it prints is the configuration."""

import json

from qiskit_qff.cli.main import run
from qiskit_qff.model.config import TrainConfig


def test_schema_is_printed(capsys) -> None:
    assert run(["schema"]) == 0
    text = capsys.readouterr().out
    assert run(["schema", "--json"]) == 0
    assert json.loads(text) == json.loads(capsys.readouterr().out)
    assert set(json.loads(text)["properties"]) == set(TrainConfig.model_fields)
