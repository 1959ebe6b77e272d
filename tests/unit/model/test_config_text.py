"""The published schema accepts and refuses what the package itself does, and leaves nothing unexplained."""

import jsonschema
import pytest
import yaml

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import TrainConfig, commented_yaml, config_schema, parse_config

SCHEMA = config_schema()


def accepted_by_schema(data: object) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def accepted_by_us(data: object) -> bool:
    try:
        parse_config(data, where="test")
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [
        {},
        TrainConfig().model_dump(mode="json"),
        {"data": {"path": ["a.extxyz", "b.extxyz"], "split": "block"}, "loss": {"shots": None}},
        {"loss": {"element_weights": {"Zn": 0.5}}},
        {"dta": {}},
        {"data": {"pth": "a"}},
        {"data": {"split": "blok"}},
        {"data": {"test_fraction": 1.0}},
        {"descriptor": {"r_cut": "five"}},
        {"descriptor": {"r_cut": 12.5}},
        {"circuit": {"n_qubits": 7}},
        {"circuit": {"n_qubits": 0}},
        {"circuit": {"n_qubits": 1}},
        {"max_parameters": 1000},
        {"max_parameters": 1001},
        {"estimator": {"shots": 0}},
        {"seed": -1},
        [],
    ],
    ids=str,
)
def test_schema_and_package_agree(data) -> None:
    assert accepted_by_schema(data) == accepted_by_us(data)


def test_text_keeps_the_values_and_shows_the_notes() -> None:
    config = parse_config(
        {"data": {"path": ["a b.extxyz", "ü#1.extxyz"]}, "loss": {"element_weights": {"Zn": 0.5, "No": 1.0}}},
        where="test",
    )
    text = commented_yaml(config, heading="Head\n\nline " * 9, notes={"seed": "drawn by lot", "data.path": "two files"})
    assert parse_config(yaml.safe_load(text), where="test") == config
    assert "# Here: drawn by lot\nseed: 0" in text
    assert "  # Here: two files\n  path: " in text
