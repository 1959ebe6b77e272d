"""``qff learn`` from rattled copies to a model: what it finds, keeps, refuses, and does not do twice."""

import shutil

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.dataset import read_frames


@pytest.fixture
def learn(qff):
    return lambda config, out, *options, code=0: qff("learn", config, "--out", out, *options, code=code)


def give_wrong_labels(tmp_path):
    """The start carries energies of another program."""
    frames = read(tmp_path / "start.extxyz", index=":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=1234.0, forces=np.zeros((8, 3)))
    write(tmp_path / "start.extxyz", frames)


def test_rounds_end_in_a_model_of_labels_that_belong_together_and_repeat_nothing(workplace, tmp_path, learn):
    out = tmp_path / "run"
    give_wrong_labels(tmp_path)
    begun, _ = learn(workplace(stop={"rounds": 1}), out)
    journal, labels = (out / "journal.jsonl").read_text(), read_frames(out / "labels.extxyz")
    assert learn(workplace(stop={"rounds": 1}), out)[0] == begun
    assert (out / "journal.jsonl").read_text() == journal
    result, _ = learn(workplace(), out)  # with another limit it goes on
    assert (result["reason"], len(result["rounds"])) == ("rounds", 2)
    first = result["rounds"][0]
    assert first == begun["rounds"][0]
    assert (out / "journal.jsonl").read_text().startswith(journal)
    frames = read_frames(out / "labels.extxyz")
    assert [f.tags["label_wall_s"] for f in frames[: len(labels)]] == [f.tags["label_wall_s"] for f in labels]
    assert len(frames) == result["n_labels"] > 5
    assert len({frame.tags["label_settings"] for frame in frames}) == 1
    for frame in frames:  # every label is EMT's own, whatever the start said
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
    roles = [(frame.tags["learn_round"], frame.tags["learn_role"]) for frame in frames]
    assert roles[:5] == [(-1, "train")] * 5
    assert roles.count((0, "train")) == first["n_chosen"] - first["n_set_aside"] > 0
    assert result["n_train"] == sum(role == "train" for _, role in roles)
    last = ForceField.load(out / "model.json")
    assert last.to_dict() == ForceField.load(result["models"][-1]).to_dict()
    errors = [np.abs(ForceField.load(result["models"][0]).predict(f).forces - f.forces).mean() for f in frames
              if (f.tags["learn_round"], f.tags["learn_role"]) == (0, "train")]  # fmt: skip
    assert first["chosen"]["force_mae_mev_per_ang"] == pytest.approx(1e3 * np.mean(errors), rel=1e-6)
    assert "was begun with md.time_ps = 0.6, not 0.7" in learn(workplace(md={"time_ps": 0.7}), out, code=2)[1]
    other = workplace(label={"options": {"asap_cutoff": True}})
    assert "was begun with label" in learn(other, out, code=2)[1]
    # Another run adopts these labels, and does not train on frames of a test file.
    shutil.copy(out / "labels.extxyz", tmp_path / "start.extxyz")
    write(tmp_path / "test.extxyz", [frame.to_atoms() for frame in frames[3:5]])
    config = workplace(stop={"rounds": 1}, test="test.extxyz")
    after, _ = learn(config, tmp_path / "after")
    adopted = read_frames(tmp_path / "after" / "labels.extxyz")[: len(frames)]
    assert [f.tags["label_wall_s"] for f in adopted] == [f.tags["label_wall_s"] for f in frames]
    assert after["rounds"][0]["n_train"] == len(frames)  # frames of 'start' stay there, also those in 'test'
    write(tmp_path / "start.extxyz", [frame.to_atoms() for frame in frames[:3]])
    first = learn(config, tmp_path / "third")[0]["rounds"][0]
    assert first["n_train"] == 3
    assert first["held_out"]["n_frames"] == 2 + first["n_drawn"]


def test_it_stops_when_it_is_calm_or_accurate_or_has_labels_enough(workplace, tmp_path, learn):
    calm = workplace(md={"temperatures_k": [300]}, select={"grade_limit": 1e3}, stop={"rounds": 9})
    result, _ = learn(calm, tmp_path / "calm")
    assert result["reason"] == "calm"
    assert len(result["rounds"]) == 2
    for record in result["rounds"]:  # nothing is beyond the limit, and the most uncertain frames are labelled
        assert (record["n_candidates"], record["n_chosen"], record["n_drawn"]) == (0, 4, 2)
        assert {run["end"] for run in record["runs"]} == {"done"}
        assert record["drawn"]["force_mae_mev_per_ang"] > 0.0
    assert len(result["models"]) == 3
    accurate = workplace(stop={"rounds": 9, "force_mae_mev_per_ang": 1e4})
    assert learn(accurate, tmp_path / "accurate")[0]["reason"] == "accurate"
    short, _ = learn(workplace(stop={"rounds": 9, "labels": 7}), tmp_path / "labels")
    assert (short["reason"], short["n_labels"]) == ("labels", 7)


def test_labels_that_fail_are_counted_and_too_few_are_an_error(workplace, tmp_path, learn):
    frames = read(tmp_path / "start.extxyz", index=":")
    for atoms in frames[:4]:
        atoms.symbols[0] = "Zn"  # an element that EMT does not know
    write(tmp_path / "start.extxyz", frames)
    message = learn(workplace(), tmp_path / "run", code=2)[1]
    assert "1 of 5 frames could be labelled" in message
    assert "labels.failures.extxyz" in message
