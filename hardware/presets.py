"""Named settings of a calibration, from ``presets.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from qiskit_qff.errors import ConfigError, suggest
from qiskit_qff.model.calibration_run import Settings

PRESETS = Path(__file__).with_name("presets.toml")
"""Named settings."""


def read_settings(preset: str, backend: str) -> Settings:
    """Settings of a preset for a backend.

    Args:
        preset: Name in presets.toml.
        backend: Name of the backend.

    Raises:
        ConfigError: If there is no such preset.
    """
    presets = tomllib.loads(PRESETS.read_text(encoding="utf-8"))
    if preset not in presets:
        raise ConfigError(f"Unknown preset '{preset}' of {PRESETS.name}. {suggest(preset, list(presets))}")
    return Settings(backend=backend, **presets[preset])
