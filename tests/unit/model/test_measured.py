"""Energies, forces and stresses through an evaluator: derivatives of amplitudes, agreement, and honest error bars."""

from dataclasses import replace

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator

from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.measured import predict_measured
from qiskit_qff.model.sensitivity import environments
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

STRATEGIES = ("environment", "density", "operator")


@pytest.fixture(scope="module")
def field(trained) -> ForceField:
    return ForceField.load(trained / "run" / "model.json")


@pytest.fixture(scope="module")
def frames(trained):
    return read_frames(trained / "data.extxyz")[:2]


@pytest.mark.parametrize("kind", ["slopes", "strains"])
def test_slopes_and_strains_are_the_derivatives_of_the_amplitudes(field, frames, kind) -> None:
    frame, step = frames[0], 1e-5
    seen = environments(field, frame)

    def moved(first, second, by):
        if kind == "slopes":
            positions = frame.positions.copy()
            positions[first, second] += by
            return field.amplitudes(replace(frame, positions=positions))
        strain = np.eye(3)
        strain[first, second] += 0.5 * by
        strain[second, first] += 0.5 * by
        return field.amplitudes(replace(frame, positions=frame.positions @ strain, cell=frame.cell @ strain))

    for first, second in [(0, 0), (0, 1), (1, 2)]:
        forward, back = moved(first, second, step), moved(first, second, -step)
        for key in field.registers:
            numeric = (forward[key] - back[key]) / (2 * step)
            found = seen.strains[key]
            if kind == "slopes":
                found = np.zeros((len(numeric), 3 * frame.n_atoms, numeric.shape[1]))
                for row, (coordinates, slopes) in zip(found, seen.reaches[key], strict=True):
                    row[coordinates] = slopes
            tolerance = 1e-6 if kind == "slopes" else 1e-5
            assert found[:, 3 * first + second] == pytest.approx(numeric, abs=tolerance)


@pytest.mark.parametrize("evaluator", [ExactEvaluator, lambda: PrimitiveEvaluator(StatevectorEstimator())])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_noiseless_strategies_equal_the_force_field(field, frames, strategy, evaluator) -> None:
    measured = predict_measured(field, frames, evaluator_for=lambda *_: evaluator(), strategy=strategy)
    for frame, prediction in zip(frames, measured.frames, strict=True):
        exact = field.predict(frame)
        stress = exact.stress(frame.volume)
        assert np.abs(prediction.stress - stress).max() < 1e-8 * max(1.0, np.abs(stress).max())
        assert np.array_equal(prediction.stress, prediction.stress.T)
        assert not prediction.stress_std.any()
        assert prediction.energy == pytest.approx(exact.energy, abs=1e-8)
        assert prediction.forces == pytest.approx(exact.forces, abs=1e-8)
        assert prediction.energy_std == 0.0
        assert not prediction.force_std.any()
    assert measured.cost.circuits > 0


def test_an_environment_feels_its_neighbours_only(field, frames) -> None:
    large = Frame.from_atoms(frames[0].to_atoms() * (4, 4, 4))
    seen = environments(field, large)
    for reaches in seen.reaches.values():
        for coordinates, _ in reaches:
            assert len(coordinates) == len(set(coordinates.tolist())) < 3 * large.n_atoms / 4
    (measured,) = predict_measured(
        field, [large], evaluator_for=lambda *_: ExactEvaluator(), strategy="operator"
    ).frames
    assert measured.forces == pytest.approx(field.predict(large).forces, abs=1e-8)
