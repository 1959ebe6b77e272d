"""Reference energies: as many as the compositions determine, and the ledger counts the numbers there really are."""

import numpy as np
import pytest
from fitting import DESCRIPTOR, prepare

from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.objective import BalancedObjective
from qiskit_qff.training.statistics import composition_directions, fit_references
from qiskit_qff.training.trainer import fit

CONFIG = {
    "descriptor": DESCRIPTOR,
    "circuit": {"n_qubits": 3},
    "max_parameters": 16,
}
CIRCUITS = {
    "tree": {},
    "pairs of a tree": {"n_qubits": 2},
    "brickwork": {"family": "brickwork_cz", "readout": "z_diagonal", "n_qubits": 2, "layers": 1, "n_readouts": 2},
}


def without(frame, rng, count):
    """The frame with some atoms taken out and labels that are as good as any."""
    kept = np.sort(rng.permutation(frame.n_atoms)[count:])
    forces = frame.forces[kept] + rng.normal(0.0, 0.05, (len(kept), 3))
    return Frame(
        frame.numbers[kept], frame.positions[kept], frame.cell, frame.pbc, energy=frame.energy - 1.7 * count + 0.3,
        forces=forces,
    )  # fmt: skip


@pytest.fixture(scope="module")
def varied(frames):
    """Frames of two species in several compositions, one of them without the second species."""
    rng = np.random.default_rng(8)
    return [without(frame, rng, k % 3) for k, frame in enumerate(frames[:8])]


@pytest.mark.parametrize(
    ("counts", "rank"),
    [
        ([[4, 8, 2], [4, 8, 2]], 1),
        ([[4, 8, 2], [8, 16, 4], [400, 800, 200]], 1),  # a supercell tells nothing new
        ([[4, 8, 2], [4, 8, 3]], 2),
        ([[4, 0, 0], [0, 8, 0], [0, 0, 2]], 3),
        ([[1, 1, 0], [0, 1, 1], [1, 2, 1]], 2),
        ([[5000, 5000, 1], [5000, 5000, 0], [5001, 5000, 0]], 3),  # one atom of ten thousand
        ([[7, 3, 0]], 1),
    ],
)
def test_rank_of_compositions(counts, rank):
    counts = np.array(counts, dtype=float)
    directions = composition_directions(counts)
    assert directions.shape == (3, rank)
    np.testing.assert_allclose(directions.T @ directions, np.eye(rank), atol=1e-12)
    # Every composition lies in the space, and the order and number of frames do not matter.
    np.testing.assert_allclose(counts @ directions @ directions.T, counts, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(composition_directions(np.tile(counts, (5, 1))[::-1]), directions)


def test_energies_taken_off_are_least_squares_in_the_same_space(varied):
    references = fit_references(varied, (10, 18))
    counts = np.array([[np.count_nonzero(f.numbers == z) for z in (10, 18)] for f in varied], dtype=float)
    size = counts.sum(axis=1)
    dense = np.linalg.lstsq(counts / size[:, None], np.array([f.energy for f in varied]) / size, rcond=None)[0]
    assert references.count == np.linalg.matrix_rank(counts) == 2
    np.testing.assert_allclose(references.baseline, dense, rtol=1e-9)
    one = fit_references(varied[:1], (10, 18))
    assert one.count == 1
    assert counts[0] @ one.baseline == pytest.approx(varied[0].energy)
    np.testing.assert_allclose(one.directions @ (one.directions.T @ one.baseline), one.baseline)


@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=list(CIRCUITS))
@pytest.mark.parametrize("several", [False, True], ids=["one composition", "several"])
def test_ledger_counts_the_independent_numbers(frames, varied, circuit, several, rng):
    data = varied if several else frames[:8]
    config = parse_config({**CONFIG, "circuit": {**CONFIG["circuit"], **circuit}}, where="test")
    prepared = prepare(data, config)
    field = fit(prepared, rng=np.random.default_rng(0)).force_field
    layout = prepared.objective.layout
    assert field.ledger.n_trainable == layout.n_trainable <= config.max_parameters
    assert field.ledger.reference_energies == (2 if several else 1)
    parameters = rng.normal(0.0, 0.5, layout.n_trainable)
    balanced = BalancedObjective(prepared.objective, np.ones(len(layout.specs))) if layout.balanced else None

    def predictions(values):
        own = prepared.force_field(values if balanced is None else balanced.parameters(values))
        return np.concatenate([np.append(p.forces.ravel(), p.energy) for p in map(own.predict, data)])

    step = 1e-5
    slopes = np.array(
        [
            (predictions(parameters + step * unit) - predictions(parameters - step * unit)) / (2 * step)
            for unit in np.eye(len(parameters))
        ]
    )
    scaled = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    assert np.linalg.matrix_rank(scaled, tol=1e-7) == field.n_trainable
