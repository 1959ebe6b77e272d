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


def test_removed_settings_say_what_holds_now():
    old = {"descriptor": {"bonds": False}, "optimizer": {"restarts": 1, "max_iterations": 300}}
    with pytest.raises(
        ConfigError, match=r"^old.yaml: 'descriptor.bonds' is no longer a setting; it is always True"
    ) as caught:
        parse_config(old, where="old.yaml")
    assert "'optimizer.restarts' is no longer a setting; it is always 3" in str(caught.value)
    same = {
        "descriptor": {"n_narrow": 14, "l_max": 3},
        "optimizer": {"restarts": 3},
        "compression": {"search_rounds": 30},
    }
    assert parse_config(same, where="old.yaml") == parse_config({"descriptor": {"l_max": 3}}, where="new.yaml")
    with pytest.raises(ConfigError, match="unknown key 'optimizer"):
        parse_config({"optimizer": {"restart": 3}}, where="old.yaml")
