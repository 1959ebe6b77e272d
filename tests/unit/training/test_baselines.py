"""Baselines: the linear model keeps to the budget, and SNAP's fit is weighted least squares."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import DESCRIPTOR, prepare, silent
from sklearn.linear_model import LinearRegression

from qiskit_qff.descriptors.channels import make_tables
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.frame import species_of
from qiskit_qff.training.baselines import Snap, linear_baseline
from qiskit_qff.training.pipeline import resolve_config
from qiskit_qff.training.statistics import LossWeights, channel_rows

CONFIG = {"descriptor": DESCRIPTOR, "circuit": {"n_qubits": 3}, "max_parameters": 20}


class Channels:
    """Rows of channels in the place of bispectrum components."""

    def __init__(self, maps) -> None:
        self.tables = make_tables({number: own.channels for number, own in maps.items()}, 4.0)

    def __call__(self, frame):
        return channel_rows(self.tables, frame)


@pytest.mark.parametrize("scale", [None, 2.0])
def test_snap_is_weighted_least_squares(frames, scale) -> None:
    config = parse_config(CONFIG | {"loss": {"stress_scale_mev_per_ang3": scale}}, where="test")
    weights, species, rows = LossWeights.of(config), species_of(frames), Channels(prepare(frames, config).maps)
    model = Snap(frames, rows, weights, silent)
    blocks, labels, factors = [], [], []
    for frame in frames:
        energy, others = rows(frame)
        counts, used = [np.count_nonzero(frame.numbers == z) for z in species], weights.n_rows(frame)
        blocks += [np.append(energy, counts)[None], np.pad(others[:used], ((0, 0), (0, len(counts))))]
        labels += [[frame.energy], weights.row_labels(frame)]
        factors += [[weights.energy_weight(frame.n_atoms)], weights.row_weights(frame)]
    design, label, factor = np.concatenate(blocks), np.concatenate(labels), np.concatenate(factors)
    dense = LinearRegression(fit_intercept=False).fit(design, label, sample_weight=factor)
    assert model.loss == pytest.approx(factor @ (dense.predict(design) - label) ** 2 / len(frames), rel=1e-4)
    found = [model.predict(frame) for frame in frames]
    loss = sum(
        weights.energy_weight(f.n_atoms) * (p.energy - f.energy) ** 2
        + weights.force_weights(f.numbers) @ (p.forces.ravel() - weights.force_labels(f)) ** 2
        for p, f in zip(found, frames, strict=True)
    )
    assert loss / len(frames) <= model.loss * (1.0 + 1e-9)
    assert (loss / len(frames) == pytest.approx(model.loss)) == (scale is None)


def test_linear_keeps_to_the_budget(frames, rng) -> None:
    config, _ = resolve_config(parse_config(CONFIG, where="test"), frames)
    model, count = linear_baseline(frames, config, silent)
    assert count == 20
    frame = frames[1]
    forces = model.predict(frame).forces
    assert np.abs(forces - frame.forces).mean() < 0.5 * np.abs(frame.forces).mean()
    direction, step = rng.normal(size=frame.positions.shape), 1e-4
    there, back = (
        model.predict(replace(frame, positions=frame.positions + side * step * direction)).energy for side in (1, -1)
    )
    assert np.vdot(forces, direction) == pytest.approx((back - there) / (2.0 * step), rel=1e-4)
