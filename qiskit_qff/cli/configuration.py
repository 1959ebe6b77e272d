"""The training configuration of a command: a YAML file or the defaults for a data file, with the options applied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.config import TrainConfig, load_config, parse_config, with_absolute_paths
from qiskit_qff.structures.shipped import is_shipped

CONFIG_SUFFIXES = {".yaml", ".yml"}

SETTINGS = {
    "split": "data.split",
    "test_fraction": "data.test_fraction",
    "group": "data.group",
    "framework": "data.framework",
    "cutoff": "descriptor.r_cut",
    "stress_scale": "loss.stress_scale_mev_per_ang3",
    "max_parameters": "max_parameters",
    "seed": "seed",
    "restarts": "optimizer.restarts",
    "backend": "estimator.backend",
    "shots": "estimator.shots",
    "optimizer": "estimator.optimizer",
    "steps": "estimator.steps",
    "start": "estimator.start",
    "mitigation": "estimator.mitigation",
    "mode": "estimator.mode",
}
"""Settings that parameters of commands give, by the name of the parameter."""


def option_of(parameter: str) -> str:
    """How the option of a command's parameter is spelt."""
    return "--r-cut" if parameter == "cutoff" else f"--{parameter.replace('_', '-')}"


def configuration(source: Path, parameters: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a run.

    Args:
        parameters: Of the command, by name; those of :data:`SETTINGS` that are not None are applied.
    """
    if source.suffix.lower() in CONFIG_SUFFIXES:
        base = load_config(source)
    elif is_shipped(source) or source.exists():
        config = TrainConfig()
        named = config.model_copy(update={"data": config.data.model_copy(update={"path": str(source)})})
        base = with_absolute_paths(named, Path())
    else:
        raise ConfigError(f"{source}: there is no such file. Give a data file, or a configuration ending in .yaml.")
    settings, options = base.model_dump(mode="json"), {}
    for parameter, name in SETTINGS.items():
        if (value := parameters.get(parameter)) is not None:
            section, _, key = name.rpartition(".")
            (settings[section] if section else settings)[key] = value
            options[name] = option_of(parameter)
    return parse_config(settings, where=str(source), options=options)
