"""The trainer on a Lennard-Jones mixture: statistics, objective and solver against dense evaluation."""

from dataclasses import replace

import numpy as np
import pytest
from fitting import prepare, silent

from qiskit_qff.circuit.ansatz import AnsatzSpec
from qiskit_qff.compression.least_squares import SizeLimits
from qiskit_qff.compression.selection import feature_maps, select_channels
from qiskit_qff.descriptors.channels import PoolSettings
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare_model
from qiskit_qff.training.objective import Objective, ParameterLayout, minimise_balanced
from qiskit_qff.training.statistics import LossWeights, find_shortest, pool_statistics, quadratic_statistics
from qiskit_qff.training.trainer import fit

SMALL = {
    "descriptor": {"r_cut": 4.5, "n_radial": 2, "l_max": 2},
    "max_parameters": 24,
}
WEIGHTS = LossWeights()


def small_config(**changes):
    return parse_config({**SMALL, **changes}, where="test")


@pytest.fixture(scope="module")
def maps(frames):
    species = (10, 18)
    shortest = find_shortest(frames, species, 4.5, silent)
    settings = PoolSettings(r_cut=4.5, n_narrow=6, n_broad=3, n_radial=2, l_max=2)
    pool = pool_statistics(frames, species, shortest, settings=settings, weights=WEIGHTS, progress=silent)
    return feature_maps(pool, select_channels(pool, SizeLimits(10, 7)))


def registers_of(maps, largest):
    """Features of each register where none holds more than so many."""
    return {
        z: [min(largest, m.n_features - begin) for begin in range(0, m.n_features, largest)] for z, m in maps.items()
    }


@pytest.fixture(scope="module")
def statistics(frames, maps):
    """Registers of up to three features."""
    return quadratic_statistics(frames, maps, registers_of(maps, 3), r_cut=4.5, weights=WEIGHTS, progress=silent)


def layout_for(statistics, *, n_amplitudes=4, balanced=False, **changes):
    options = {"family": "ry_tree", "readout": "rank_one"} | changes
    specs = (AnsatzSpec(n_amplitudes=n_amplitudes, **options),) * len(statistics.sizes)
    return ParameterLayout(specs, tuple(statistics.sizes.tolist()), statistics.references.count, balanced=balanced)


def test_energies_of_further_frames_count_without_their_forces(frames):
    species, cut = (10, 18), 5
    shortest = find_shortest(frames, species, 4.5, silent)
    settings = PoolSettings(r_cut=4.5, n_narrow=6, n_broad=3, n_radial=2, l_max=2)

    def sums(own, others, weights):
        return pool_statistics(
            own, species, shortest, settings=settings, weights=weights, progress=silent, others=others
        )

    # With forces all but left out, energies of further frames are as good as those of the frames themselves.
    few = LossWeights(energy_scale=3e-3, force_scale=1e6)
    spread = replace(few, energy_scale=few.energy_scale * np.sqrt(len(frames) / cut))
    ours, theirs = sums(frames[:cut], frames[cut:], few), sums(frames, (), spread)
    largest = np.abs(theirs.equations.gram).max()
    np.testing.assert_allclose(ours.equations.gram, theirs.equations.gram, atol=1e-9 * largest)
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-12)
    # And they leave the share of the forces as it is.
    many = LossWeights(energy_scale=1e6, force_scale=0.1)
    ours, theirs = sums(frames[:cut], frames[cut:], many), sums(frames[:cut], (), many)
    np.testing.assert_allclose(ours.equations.gram, theirs.equations.gram, rtol=1e-9, atol=1e-12 * largest)


BRICKWORK = {"family": "brickwork_cz", "readout": "z_diagonal", "layers": 2, "n_readouts": 3}


@pytest.mark.parametrize("circuit", [{}, BRICKWORK], ids=["tree", "brickwork"])
def test_gradient_and_gauss_newton_matrix(statistics, rng, circuit):
    objective = Objective(statistics, layout_for(statistics, **circuit))
    parameters = rng.normal(0, 0.3, objective.layout.n_parameters)
    _, gradient, curvature = objective.quadratic_model(parameters)
    step = 1e-6
    numeric = [
        (objective.loss(parameters + step * e) - objective.loss(parameters - step * e)) / (4 * step)
        for e in np.eye(len(parameters))
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-6 * np.abs(gradient).max())
    assert np.linalg.eigvalsh(curvature).min() > -1e-9 * np.linalg.eigvalsh(curvature).max()


def test_balanced_training_begins_at_the_linear_model_and_only_improves(statistics):
    objective = Objective(statistics, layout_for(statistics, balanced=True))
    linear = objective.linear_solution()[0]
    runs = minimise_balanced(objective, rng=np.random.default_rng(0), progress=silent)
    assert all(np.all(np.diff(run.losses) < 0) for run in runs)
    # Squares that the linear model lacks come with its terms; they are small.
    begin = min(run.losses[0] for run in runs)
    assert begin <= 1.2 * linear + 0.05
    assert objective.bound() <= runs[0].losses[-1] <= begin


def test_the_linear_model_has_the_loss_of_the_normal_equations(frames) -> None:
    """Its predictions, frame by frame, against the loss of the solution, without the ridge that it was solved with."""
    prepared = prepare(frames, small_config(max_parameters=6))
    _, coefficients, references = prepared.objective.linear_solution()
    found, starts = prepared.objective.statistics, prepared.objective.statistics.starts
    vector = np.zeros(len(found.equations.moment))
    for begin, terms in zip(starts, coefficients, strict=False):
        vector[begin + 1 : begin + 1 + len(terms)] = 0.5 * terms
    vector[starts[-1] :] = references
    loss = replace(found.equations, gram=found.equations.symmetric()).loss(vector)
    model = fit(prepared, rng=np.random.default_rng(0)).linear
    off = compare_model(model, frames)
    energies = 1e-3 * off.energy_errors / WEIGHTS.energy_scale
    forces = 1e-3 * off.force_errors / WEIGHTS.force_scale
    assert np.mean(energies**2) + np.mean(forces**2) == pytest.approx(loss, rel=1e-6)
