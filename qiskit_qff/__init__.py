"""Quantum-classical force fields with fewer than 100 trainable parameters, on Qiskit.

The energy of an atom is a quadratic form ``E_i = x_iᵀ M_s(θ) x_i`` in 2ⁿ numbers ``x_i`` that describe its
neighbours; the matrix ``M_s(θ) = U†(θ) O_s U(θ)`` of its species is what a shallow quantum circuit on n
qubits measures. Units are eV, Å and fs throughout; qubits and amplitudes are little-endian, as in Qiskit.

The names below are loaded on first use, so ``import qiskit_qff`` itself is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qiskit_qff.circuit.ansatz import register_ansatz as register_ansatz
    from qiskit_qff.descriptors.channels import register_descriptor as register_descriptor
    from qiskit_qff.errors import QFFError as QFFError
    from qiskit_qff.model.config import TrainConfig as TrainConfig
    from qiskit_qff.model.config import load_config as load_config
    from qiskit_qff.model.force_field import ForceField as ForceField
    from qiskit_qff.simulation.calculator import QFFCalculator as QFFCalculator
    from qiskit_qff.structures.dataset import read_frames as read_frames
    from qiskit_qff.structures.dataset import read_shipped as read_shipped
    from qiskit_qff.structures.frame import Frame as Frame
    from qiskit_qff.training.pipeline import train as train

__version__ = "0.2.0"

_HOMES = {
    "ForceField": "qiskit_qff.model.force_field",
    "Frame": "qiskit_qff.structures.frame",
    "QFFCalculator": "qiskit_qff.simulation.calculator",
    "QFFError": "qiskit_qff.errors",
    "TrainConfig": "qiskit_qff.model.config",
    "load_config": "qiskit_qff.model.config",
    "read_frames": "qiskit_qff.structures.dataset",
    "read_shipped": "qiskit_qff.structures.dataset",
    "register_ansatz": "qiskit_qff.circuit.ansatz",
    "register_descriptor": "qiskit_qff.descriptors.channels",
    "train": "qiskit_qff.training.pipeline",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name from its home module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'qiskit_qff' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, for tab completion."""
    return sorted(__all__)
