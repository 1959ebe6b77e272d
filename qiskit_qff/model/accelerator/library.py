"""Where JAX is loaded, and its devices found by name."""

from __future__ import annotations

from typing import Any, Literal, get_args

from qiskit_qff.errors import BackendError, ConfigError, MissingDependencyError

Device = Literal["gpu", "cpu-jax"]
"""``gpu`` is the first graphics processor; ``cpu-jax`` runs the same operations on the processor, for tests."""

Precision = Literal["float64", "float32"]
"""Of the model; pair vectors and sums over atoms are float64 in both."""


def load_jax() -> Any:
    """The JAX library.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    try:
        import jax
    except ImportError as error:
        raise MissingDependencyError(
            "devices other than cpu need JAX: pip install 'qiskit_qff[gpu]', or leave --device out"
        ) from error
    return jax


def find_device(name: str) -> Any:
    """A device by its name.

    Args:
        name: ``gpu`` or ``cpu-jax``.

    Raises:
        BackendError: If there is no graphics processor that JAX can use.
        ConfigError: If the name is another one.
        MissingDependencyError: If JAX is not installed.
    """
    if name not in get_args(Device):
        raise ConfigError(f"device '{name}' is unknown; choose cpu, {' or '.join(get_args(Device))}.")
    jax = load_jax()
    try:
        return jax.devices("gpu" if name == "gpu" else "cpu")[0]
    except RuntimeError as error:
        found = sorted({device.platform for device in jax.devices()})
        raise BackendError(
            f"device 'gpu': JAX {jax.__version__} finds no graphics processor, only {', '.join(found)}. Check the "
            "driver (nvidia-smi) and pip install 'qiskit_qff[gpu]', or leave --device out."
        ) from error


def check_precision(precision: str) -> None:
    """Refuse other words.

    Raises:
        ConfigError: If the precision is neither float64 nor float32.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision '{precision}' is unknown; choose {' or '.join(get_args(Precision))}.")
