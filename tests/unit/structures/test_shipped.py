"""The shipped data, and the models that the notebooks have of it."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from qiskit_qff import ForceField, TrainConfig
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.training.pipeline import read_training_data


def test_forces_of_the_trajectory_are_slopes_of_its_energies():
    """Along each step the energy falls by the work of the mean force: labels, units and order belong together."""
    falls, works = [], []
    for one, other in itertools.pairwise(read_shipped("li6ps5cl")):
        if other.tags["step"] == one.tags["step"] + 1:
            falls.append(other.energy - one.energy)
            works.append(-0.5 * np.sum((one.forces + other.forces) * (other.positions - one.positions)))
    assert np.corrcoef(falls, works)[0, 1] > 0.999
    np.testing.assert_allclose(falls, works, atol=0.02)


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
