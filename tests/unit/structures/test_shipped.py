"""The shipped data set is what its card says."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa

from qiskit_qff import ForceField, TrainConfig
from qiskit_qff.structures.dataset import read_shipped, shipped_path
from qiskit_qff.training.pipeline import read_training_data


@pytest.fixture(scope="module")
def frames():
    return read_shipped()


@pytest.fixture(scope="module")
def card():
    return (shipped_path().parent / "README.md").read_text()


def test_figures_of_the_card(frames, card):
    forces = np.concatenate([frame.forces.ravel() for frame in frames])
    energies = np.array([frame.energy / frame.n_atoms for frame in frames if frame.n_atoms == 110])
    assert f"| frames | {len(frames)}: {sum(not f.tags['rattle'] for f in frames)} snapshots" in card
    assert f"{energies.min():.3f} to {energies.max():.3f} eV/atom" in card
    assert f"spread {energies.std() * 1e3:.1f} meV/atom" in card
    assert f"standard deviation {forces.std():.2f} eV/Å" in card
    assert f"largest component {np.abs(forces).max():.1f} eV/Å" in card
    assert f"reaches {max(np.abs(f.forces.sum(axis=0)).max() for f in frames):.2f} eV/Å" in card


@pytest.fixture(scope="module")
def electrolyte():
    return read_shipped("li6ps5cl")


def test_forces_of_the_trajectory_are_slopes_of_its_energies(electrolyte):
    """Along each step the energy falls by the work of the mean force: labels, units and order belong together."""
    falls, works = [], []
    for one, other in itertools.pairwise(electrolyte):
        if other.tags["step"] == one.tags["step"] + 1:
            falls.append(other.energy - one.energy)
            works.append(-0.5 * np.sum((one.forces + other.forces) * (other.positions - one.positions)))
    assert np.corrcoef(falls, works)[0, 1] > 0.999
    np.testing.assert_allclose(falls, works, atol=0.02)


def test_stresses_of_the_electrolyte_are_derivatives_of_its_energy(electrolyte):
    """By the volumes of the fine grid; and corrected ones of the coarse grid are those of the fine one."""
    known = [frame for frame in electrolyte if frame.stress is not None]
    assert len(known) == 28
    assert {frame.tags["stress_shift_gpa"] for frame in known} == {-3.3578}
    volumes = read_shipped("li6ps5cl_volumes")
    assert [(frame.tags["linear_scale"], frame.tags["row"]) for frame in volumes] == [
        (0.98, 122), (1.0, 0), (1.0, 122), (1.02, 122)
    ]  # fmt: skip
    for fine in volumes[1:3]:
        (same,) = (frame for frame in known if np.abs(frame.positions - fine.positions).max() < 1e-6)
        assert np.abs(same.stress - fine.stress).max() < 0.01 * GPa
        assert np.sqrt(np.mean((same.forces - fine.forces) ** 2)) < 0.008
    low, _, middle, high = volumes
    # Along the path of the three the PS4 tetrahedra keep their bonds, while all else scales with the cell.
    velocity, slopes = (high.positions - low.positions) / 0.04, []
    for frame, places in (
        (low, low.positions),
        (middle, 0.5 * (low.positions + high.positions)),
        (high, high.positions),
    ):
        scale = frame.tags["linear_scale"]
        beside = velocity - places / scale
        slopes.append(frame.volume * np.trace(frame.stress) / scale - float((frame.forces * beside).sum()))
    by_slopes = 0.04 / 6.0 * (slopes[0] + 4.0 * slopes[1] + slopes[2])
    assert by_slopes == pytest.approx(high.energy - low.energy, abs=0.03)


@pytest.mark.parametrize("name", ["shipped", "li6ps5cl"])
def test_the_models_of_the_notebooks_are_those_of_the_defaults(name):
    """Trained on the frames and with the settings that ``qff train`` takes today, and as accurate as its split says."""
    path = Path(__file__).parents[3] / "notebooks" / "data" / f"{name}_model.json"
    if not path.exists():
        pytest.skip("not in a copy of the tests alone")
    field = ForceField.load(path)
    data = read_training_data(read_shipped(name), TrainConfig())
    assert all(field.has_seen(frame) for frame in data.training)
    assert not any(field.has_seen(frame) for frame in data.held_out)
    said, now = field.metadata["config"], data.config.model_dump(mode="json")
    for part in ("descriptor", "circuit", "loss"):
        known = said[part].keys() & now[part].keys()  # settings come and go
        assert {key: said[part][key] for key in known} == {key: now[part][key] for key in known}
    assert (said["max_parameters"], said["seed"]) == (now["max_parameters"], now["seed"])
