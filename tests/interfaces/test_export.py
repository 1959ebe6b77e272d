"""``qff export`` and its reader of 63 lines, against the force field."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qiskit_qff.compression.selection import LinearMap
from qiskit_qff.model.export import export_document
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames

READER = Path(__file__).parents[2] / "examples" / "numpy_reader.py"


@pytest.fixture(scope="module")
def reader():
    """The reader as a module of its own; it may import numpy and the standard library, no more."""
    spec = importlib.util.spec_from_file_location("numpy_reader", READER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def exported(trained, tmp_path, qff):
    qff("export", trained / "run", "--out", tmp_path / "plain.json")
    return json.loads((tmp_path / "plain.json").read_text())


def closer(frame):
    """The frame with two atoms pushed into each other's core."""
    positions = frame.positions.copy()
    positions[0] += 0.45 * (positions[1] - positions[0])
    return replace(frame, positions=positions)


def alone(frame):
    """The frame without periods."""
    return replace(frame, pbc=np.zeros(3, dtype=bool))


@pytest.mark.parametrize("change", [lambda frame: frame, closer, alone], ids=["crystal", "core", "cluster"])
def test_reader_agrees_with_the_force_field(trained, exported, reader, change) -> None:
    field, frame = ForceField.load(trained / "run" / "model.json"), change(read_frames(trained / "data.extxyz")[2])
    expected = field.predict(frame)
    where = (exported, list(frame.symbols), frame.positions, frame.cell, frame.pbc)
    assert reader.energy(*where) == pytest.approx(expected.energy, abs=1e-10)
    np.testing.assert_allclose(
        reader.forces(*where), expected.forces, rtol=0.0, atol=1e-10 * max(1.0, np.abs(expected.forces).max())
    )


def test_other_functions_of_the_angle_and_products_of_channels(trained, reader, tmp_path) -> None:
    """Products of a simple channel with one, and of that with another."""
    field, frame = ForceField.load(trained / "run" / "model.json"), read_frames(trained / "data.extxyz")[2]

    def changed(model):
        own, n = model.compression, model.compression.channels.n_channels
        angular = own.channels.angular_coefficients(own.channels.l_max) * 0.7
        angular[:, 0] += 0.4
        mean = np.array([[own.mean[0], own.mean[1]], [0.1, own.mean[0]]])
        channels = replace(own.channels, angular=angular).with_products(
            np.array([[0, 1], [n, 0]]), mean, np.array([[0.3, 0.2], [0.5, 0.4]])
        )
        columns = np.random.default_rng(n).normal(scale=np.abs(own.matrix).max(), size=(own.n_features, 2))
        compression = LinearMap(channels, np.append(own.mean, [0.02, -0.01]), np.hstack([own.matrix, columns]))
        return replace(model, compression=compression)

    bent = replace(field, models=tuple(changed(model) for model in field.models))
    where = (export_document(bent), list(frame.symbols), frame.positions, frame.cell, frame.pbc)
    expected = bent.predict(frame)
    assert abs(expected.energy - field.predict(frame).energy) > 1e-3
    assert reader.energy(*where) == pytest.approx(expected.energy, abs=1e-10)
    np.testing.assert_allclose(reader.forces(*where), expected.forces, atol=1e-10)
    bent.save(tmp_path / "bent.json")
    np.testing.assert_array_equal(ForceField.load(tmp_path / "bent.json").predict(frame).forces, expected.forces)
