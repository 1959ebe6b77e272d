"""The training configuration of a command: a YAML file or the defaults for a data file, with the options applied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import TrainConfig, load_config, parse_config, with_absolute_paths
from qiskit_qff.structures.shipped import is_shipped

CONFIG_SUFFIXES = {".yaml", ".yml"}

OPTIONS = {
    "data.split": "--split",
    "data.test_fraction": "--test-fraction",
    "data.group": "--group",
    "data.framework": "--framework",
    "descriptor.r_cut": "--r-cut",
    "loss.stress_scale_mev_per_ang3": "--stress-scale",
    "optimizer.restarts": "--restarts",
    "estimator.backend": "--backend",
    "estimator.shots": "--shots",
    "estimator.optimizer": "--optimizer",
    "estimator.steps": "--steps",
    "estimator.learning_rate": "--learning-rate",
    "estimator.start": "--start",
    "estimator.mitigation": "--mitigation",
    "estimator.dynamical_decoupling": "--dynamical-decoupling",
    "estimator.mode": "--mode",
    "max_parameters": "--max-parameters",
    "seed": "--seed",
}
"""Options by the setting that they give."""


def configuration(source: Path, given: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a run.

    Args:
        source: data file, name of a shipped set, or configuration ending in .yaml.
        given: values of options by dotted name of the setting; None where an option was not given.

    Raises:
        ConfigError: if the file or an option is wrong.
    """
    if source.suffix.lower() in CONFIG_SUFFIXES:
        base = load_config(source)
    elif is_shipped(source) or source.exists():
        config = TrainConfig()
        named = config.model_copy(update={"data": config.data.model_copy(update={"path": str(source)})})
        base = with_absolute_paths(named, Path())
    else:
        raise ConfigError(f"{source}: there is no such file. Give a data file, or a configuration ending in .yaml.")
    settings = base.model_dump(mode="json")
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        section, _, key = name.rpartition(".")
        (settings[section] if section else settings)[key] = value
    return parse_config(settings, where=str(source), options={name: OPTIONS[name] for name in chosen})
