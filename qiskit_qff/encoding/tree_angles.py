r"""Amplitudes to rotation angles of the preparation tree and back, with analytic derivatives.

Per level the branch angles :math:`\varphi = 2\,\mathrm{atan2}(r_{right}, r_{left})` are combined into one
angle per RY gate by the inverse of the multiplexor's sign matrix. A branch of weight zero has the angle 0.
The derivative of a branch angle is

.. math:: \mathrm d\varphi = 2\,(r_{left}\,\mathrm dr_{right} - r_{right}\,\mathrm dr_{left})
          / (r_{left}^2 + r_{right}^2)

and is 0 in a branch of weight zero, where the angle says nothing about the state (see
:func:`dead_amplitudes`).
"""

from __future__ import annotations

import numpy as np

from qiskit_qff.array_types import BoolArray, FloatArray
from qiskit_qff.encoding.tree import TreeLayout
from qiskit_qff.errors import ConfigError


def loader_angles(layout: TreeLayout, amplitudes: FloatArray) -> FloatArray:
    """Gate angles that prepare the normalised amplitudes, signs included.

    Args:
        layout: The tree.
        amplitudes: Shape ``(batch, 2**n_qubits)``, of any norm, zero beyond ``n_amplitudes``.

    Returns:
        Angles in radians, shape ``(batch, n_gates)``.

    Raises:
        ConfigError: If the amplitudes do not fit the tree.
    """
    _check(layout, amplitudes)
    radii = _radii(layout, amplitudes)
    angles = np.empty((len(amplitudes), layout.n_gates))
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        left, right = radii[level + 1][:, 0::2], radii[level + 1][:, 1::2]
        branch_angles = 2.0 * np.arctan2(right, left)[:, :n_branches]
        angles[:, layout.offsets[level] : layout.offsets[level + 1]] = branch_angles @ multiplexor.inverse_walsh.T
    return angles


def loader_amplitudes(layout: TreeLayout, angles: FloatArray) -> FloatArray:
    """State that the tree prepares from gate angles: the inverse of :func:`loader_angles` on unit vectors.

    Args:
        layout: The tree.
        angles: Radians, shape ``(batch, n_gates)``; the angle of a half branch may differ from 0 here.

    Returns:
        Unit vectors, shape ``(batch, 2**n_qubits)``.
    """
    weights = np.ones((len(angles), 1))
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        gate_angles = angles[:, layout.offsets[level] : layout.offsets[level + 1]]
        halves = 0.5 * gate_angles @ multiplexor.walsh.T
        split = np.zeros((len(angles), weights.shape[1], 2))
        split[:, :n_branches, 0] = weights[:, :n_branches] * np.cos(halves)
        split[:, :n_branches, 1] = weights[:, :n_branches] * np.sin(halves)
        weights = split.reshape(len(angles), -1)
    return weights


def loader_jacobian(layout: TreeLayout, amplitudes: FloatArray) -> FloatArray:
    """Derivative of the gate angles with respect to the amplitudes.

    Args:
        layout: The tree.
        amplitudes: Shape ``(batch, 2**n_qubits)``, of any norm.

    Returns:
        Radians per unit of amplitude, shape ``(batch, n_gates, 2**n_qubits)``; zero beyond ``n_amplitudes``,
        and in branches of weight zero.

    Raises:
        ConfigError: If the amplitudes do not fit the tree.
    """
    _check(layout, amplitudes)
    radii = _radii(layout, amplitudes)
    batch, size = amplitudes.shape
    jacobian = np.zeros((batch, layout.n_gates, size))
    for level, multiplexor in enumerate(layout.levels):
        n_branches = len(multiplexor.patterns)
        width = size >> level
        left, right = radii[level + 1][:, 0::2], radii[level + 1][:, 1::2]
        weight = left**2 + right**2
        rate = np.divide(2.0, weight, out=np.zeros_like(weight), where=weight > 0.0)
        # d r / d x_j = x_j / r for a norm, 1 for a signed amplitude; x_j stays in the numerator.
        slopes = np.repeat(np.stack([-right * rate, left * rate], axis=-1).reshape(batch, -1), width // 2, axis=1)
        slopes *= _radius_slopes(amplitudes, np.repeat(radii[level + 1], width // 2, axis=1), leaf=width == 2)
        branch = np.arange(size) // width
        inside = branch < n_branches
        inverse = np.zeros((len(multiplexor.masks), size))
        inverse[:, inside] = multiplexor.inverse_walsh[:, branch[inside]]
        jacobian[:, layout.offsets[level] : layout.offsets[level + 1]] = inverse[None] * slopes[:, None, :]
    jacobian[:, :, layout.n_amplitudes :] = 0.0
    return jacobian


def dead_amplitudes(layout: TreeLayout, amplitudes: FloatArray) -> BoolArray:
    """Amplitudes in branches of weight zero: the angles do not respond to them, though the energy may.

    Args:
        layout: The tree.
        amplitudes: Shape ``(batch, 2**n_qubits)``.

    Returns:
        True where a derivative has to be found another way, shape ``(batch, 2**n_qubits)``; False beyond
        ``n_amplitudes``, where the amplitude is fixed to zero.
    """
    pairs = amplitudes.reshape(len(amplitudes), -1, 2)
    dead = np.repeat((pairs == 0.0).all(axis=2), 2, axis=1)
    dead[:, layout.n_amplitudes :] = False
    return np.asarray(dead)


def _radii(layout: TreeLayout, amplitudes: FloatArray) -> list[FloatArray]:
    """Weights of the branches per level, root first; the last entry holds the signed amplitudes."""
    radii = [amplitudes]
    for _ in range(layout.n_qubits):
        radii.append(np.hypot(radii[-1][:, 0::2], radii[-1][:, 1::2]))
    return radii[::-1]


def _radius_slopes(amplitudes: FloatArray, radii: FloatArray, *, leaf: bool) -> FloatArray:
    """Derivative of each half's weight with respect to the amplitudes in it, shape ``(batch, 2**n)``."""
    if leaf:
        return np.ones_like(amplitudes)
    return np.divide(amplitudes, radii, out=np.zeros_like(amplitudes), where=radii > 0.0)


def _check(layout: TreeLayout, amplitudes: FloatArray) -> None:
    """Refuse amplitudes that the tree cannot prepare."""
    expected = 2**layout.n_qubits
    if amplitudes.ndim != 2 or amplitudes.shape[1] != expected:
        raise ConfigError(
            f"Amplitudes for {layout.n_qubits} qubits have shape (batch, {expected}); {amplitudes.shape} was given."
        )
    if np.any(amplitudes[:, layout.n_amplitudes :]):
        raise ConfigError(
            f"The tree reaches the first {layout.n_amplitudes} of {expected} amplitudes, but a later one is "
            "not zero. Build the tree with more amplitudes."
        )
