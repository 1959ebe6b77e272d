r"""A small neural network per species, fitted to energies and forces by L-BFGS.

.. math:: E_i = e_s + \sum_k a_{sk}\tanh(w_{sk}\cdot y_i + b_{sk})

has ``h (d + 2)`` parameters per species, beside as many reference energies as the data tell apart. Forces need its
derivative in y, gradients of the loss the second derivative, both written out here. The first unit starts as the best
linear model in its nearly linear range, so training starts at about the linear model's error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from qiskit_qff.array_types import FloatArray
from qiskit_qff.compression.linear_map import LinearMap
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.baselines.atom_features import AtomFeatures, SpeciesAtoms, atom_features
from qiskit_qff.training.baselines.baseline import Baseline, BaselineLedger, with_core
from qiskit_qff.training.design import LossWeights
from qiskit_qff.training.references import References

Units = tuple[FloatArray, FloatArray, FloatArray]
"""Input weights, shape ``(h, d)``, biases and output weights, shape ``(h,)``, of one species."""

LINEAR_RANGE = 0.3
"""Standard deviation of the first unit's argument at the start; tanh bends by 3 % there."""


@dataclass(frozen=True)
class PerceptronShape:
    """Sizes of the networks and where their parameters lie."""

    n_hidden: int
    """Units h of every species."""
    n_features: tuple[int, ...]
    """Inputs d of each species."""
    n_references: int
    """Reference energies that the data tell apart."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of each species, without reference energies."""
        return tuple(self.n_hidden * (d + 2) for d in self.n_features)

    @property
    def n_parameters(self) -> int:
        """All parameters; coordinates of the reference energies are the last."""
        return sum(self.sizes) + self.n_references

    def split(self, parameters: FloatArray) -> list[Units]:
        """Input weights, shape ``(h, d)``, biases and output weights, shape ``(h,)``, of each species.

        Args:
            parameters: Shape ``(n_parameters,)``; the arrays are views of it.
        """
        parts, start = [], 0
        for d, size in zip(self.n_features, self.sizes, strict=True):
            own, h = parameters[start : start + size], self.n_hidden
            parts.append((own[: h * d].reshape(h, d), own[h * d : h * (d + 1)], own[h * (d + 1) :]))
            start += size
        return parts

    def energies(self, parameters: FloatArray) -> FloatArray:
        """Coordinates of the reference energies, shape ``(r,)``.

        Args:
            parameters: Shape ``(n_parameters,)``.
        """
        return parameters[sum(self.sizes) :]


class PerceptronLoss:
    """Loss of the networks on some frames, per frame, and its gradient."""

    def __init__(
        self,
        frames: Sequence[Frame],
        atoms: AtomFeatures,
        shape: PerceptronShape,
        *,
        weights: LossWeights,
        references: References,
    ) -> None:
        """Gather labels and weights.

        Args:
            frames: Labelled frames.
            atoms: Their features, with rows of derivatives by strain where the loss has stresses.
            shape: Sizes of the networks.
            weights: The loss.
            references: Space of the reference energies, and those taken off the labels.
        """
        self._atoms, self._shape = atoms, shape
        energies = np.array([frame.energy for frame in frames], dtype=np.float64)
        self._energies = energies - atoms.counts @ references.baseline
        self._columns = atoms.counts @ references.directions
        self._others = np.concatenate([weights.row_labels(frame) for frame in frames])
        self._energy_weights = np.array([weights.energy_weight(f.n_atoms) for f in frames]) / len(frames)
        self._other_weights = np.concatenate([weights.row_weights(frame) for frame in frames]) / len(frames)

    def __call__(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Loss and gradient.

        Args:
            parameters: Shape ``(P,)``.
        """
        parts = self._shape.split(parameters)
        energies, others = predict_atoms(self._atoms, parts)
        energies += self._columns @ self._shape.energies(parameters)
        energy_error, other_error = energies - self._energies, others - self._others
        weighted = self._energy_weights * energy_error
        pulled = self._other_weights * other_error
        value = float(weighted @ energy_error + pulled @ other_error)
        slopes = [
            _species_gradient(own, part, 2.0 * weighted[own.frame], 2.0 * (own.slopes.T @ pulled))
            for own, part in zip(self._atoms.species, parts, strict=True)
        ]
        return value, np.concatenate([*slopes, 2.0 * self._columns.T @ weighted])


def predict_atoms(atoms: AtomFeatures, parts: Sequence[Units]) -> tuple[FloatArray, FloatArray]:
    """Energies of all frames, without reference energies, and forces on all their atoms (and virials, see below).

    Args:
        atoms: Features.
        parts: Parameters of each species, as :meth:`PerceptronShape.split` gives them.

    Returns:
        Shapes ``(F,)`` in eV and, for every row of the slopes, ``(n_rows,)``: forces in eV/Å, and after those of a
        frame six components of its virial in eV where the features have them.
    """
    energies = np.zeros(len(atoms.counts))
    others = np.zeros(atoms.species[0].slopes.shape[0])
    for own, (inner, bias, outer) in zip(atoms.species, parts, strict=True):
        hidden = np.tanh(own.features @ inner.T + bias)
        np.add.at(energies, own.frame, hidden @ outer)
        others += own.slopes @ (((1.0 - hidden**2) * outer) @ inner).ravel()
    return energies, others


def _species_gradient(
    own: SpeciesAtoms,
    part: Units,
    by_energy: FloatArray,
    by_slope: FloatArray,
) -> FloatArray:
    """Gradient of the loss in the parameters of one species.

    Args:
        own: Its atoms.
        part: Its parameters.
        by_energy: dL/dE of each atom, shape ``(n,)``.
        by_slope: dL/d(dE/dy) of each atom, shape ``(n d,)``.
    """
    inner, bias, outer = part
    hidden = np.tanh(own.features @ inner.T + bias)
    bend = 1.0 - hidden**2
    pulled = by_slope.reshape(own.features.shape)
    along = pulled @ inner.T
    # dL/d(argument) through the energy, and through the derivative of tanh.
    argument = outer * bend * (by_energy[:, None] - 2.0 * hidden * along)
    by_inner = argument.T @ own.features + (outer * bend).T @ pulled
    by_outer = hidden.T @ by_energy + (bend * along).sum(axis=0)
    return np.concatenate([by_inner.ravel(), argument.sum(axis=0), by_outer])


def start_parameters(
    shape: PerceptronShape,
    atoms: AtomFeatures,
    linear: Sequence[FloatArray],
    energies: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Networks whose first unit is nearly the given linear model and whose others are small.

    Args:
        shape: Sizes.
        atoms: Features, for their spread.
        linear: Coefficients of each species, shape ``(d_s,)``, in eV.
        energies: Coordinates of the reference energies, shape ``(r,)``, in eV.
        rng: Source of the other units.
    """
    parameters = np.zeros(shape.n_parameters)
    shape.energies(parameters)[:] = energies
    for (inner, _, outer), own, beta in zip(shape.split(parameters), atoms.species, linear, strict=True):
        spread = max(float((own.features @ beta).std()), 1e-12)
        inner[0], outer[0] = beta * (LINEAR_RANGE / spread), spread / LINEAR_RANGE
        inner[1:] = rng.normal(0.0, LINEAR_RANGE, inner[1:].shape) / np.maximum(own.features.std(axis=0), 1e-12)
        inner[1:] /= np.sqrt(inner.shape[1])
        outer[1:] = 0.1 * spread * rng.normal(size=len(outer) - 1)
    return parameters


def fit_perceptron(
    loss: PerceptronLoss, starts: Sequence[FloatArray], *, max_iterations: int
) -> tuple[FloatArray, float]:
    """Minimise from several starts.

    Args:
        loss: The loss.
        starts: Initial parameters, shape ``(P,)`` each.
        max_iterations: Most iterations of one start.

    Returns:
        The best parameters and their loss.
    """
    runs = [
        minimize(
            loss.__call__,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": 50, "ftol": 1e-9},
        )
        for start in starts
    ]
    best = min(runs, key=lambda run: float(run.fun))
    return np.asarray(best.x), float(best.fun)


def perceptron_baseline(
    shape: PerceptronShape,
    parameters: FloatArray,
    maps: dict[int, LinearMap],
    repulsion: CoreRepulsion,
    *,
    references: References,
    r_cut: float,
) -> Baseline:
    """A fitted network.

    Args:
        shape: Sizes.
        parameters: Shape ``(P,)``.
        maps: Compression of each species.
        repulsion: Core repulsion, as the quantum model has it.
        references: Space of the reference energies, and those that were taken off the labels.
        r_cut: Cutoff radius in Å.
    """
    parts, constants = shape.split(parameters), references.energies(shape.energies(parameters))

    def predict(frame: Frame) -> tuple[float, FloatArray]:
        atoms = atom_features([frame], maps, r_cut=r_cut, core_start=repulsion.level)
        energies, forces = predict_atoms(atoms, parts)
        return float(energies[0] + atoms.counts[0] @ constants), forces.reshape(-1, 3)

    ledger = BaselineLedger(
        coefficients=sum(shape.sizes),
        reference_energies=shape.n_references,
        choices=sum(m.channels.n_channels for m in maps.values()),
        label_free=sum(m.mean.size + m.matrix.size for m in maps.values()),
    )
    words = f"network of {shape.n_hidden} tanh units per species"
    return Baseline("mlp", words, ledger, with_core(predict, repulsion, r_cut=r_cut))
