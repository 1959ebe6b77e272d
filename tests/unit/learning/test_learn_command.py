"""``qff learn`` from rattled copies to a model: what it finds, keeps, refuses, and does not do twice."""

import json

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from qiskit_qff.cli.main import run
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.reading import read_frames


def learn(config, out, capsys, *options, code=0):
    found = run(["learn", str(config), "--out", str(out), "--json", *options])
    captured = capsys.readouterr()
    assert found == code, captured.err
    return json.loads(captured.out.splitlines()[-1]) if code == 0 else captured.err


def give_wrong_labels(tmp_path):
    """The start carries energies of another program."""
    frames = read(tmp_path / "start.extxyz", index=":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=1234.0, forces=np.zeros((8, 3)))
    write(tmp_path / "start.extxyz", frames)


def test_rounds_end_in_a_model_of_labels_that_belong_together(workplace, tmp_path, capsys):
    out = tmp_path / "run"
    give_wrong_labels(tmp_path)
    result = learn(workplace(), out, capsys)
    assert (result["reason"], len(result["rounds"])) == ("rounds", 2)
    frames = read_frames(out / "labels.extxyz")
    assert len(frames) == result["n_labels"] > 5
    assert len({frame.tags["label_settings"] for frame in frames}) == 1
    for frame in frames:  # every label is EMT's own, whatever the start said
        atoms = frame.to_atoms()
        atoms.calc = EMT()
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert frame.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
    roles = [(frame.tags["learn_round"], frame.tags["learn_role"]) for frame in frames]
    assert roles[:5] == [(-1, "train")] * 5
    first = result["rounds"][0]
    assert roles.count((0, "train")) == first["n_chosen"] - first["n_set_aside"] > 0
    assert result["n_train"] == sum(role == "train" for _, role in roles)
    last = ForceField.load(out / "model.json")
    assert last.to_dict() == ForceField.load(result["models"][-1]).to_dict()
    errors = [np.abs(ForceField.load(result["models"][0]).predict(f).forces - f.forces).mean() for f in frames
              if (f.tags["learn_round"], f.tags["learn_role"]) == (0, "train")]  # fmt: skip
    assert first["chosen"]["force_mae_mev_per_ang"] == pytest.approx(1e3 * np.mean(errors), rel=1e-6)
    page = (out / "learning.html").read_text()
    assert "Active learning" in page
    assert (out / "learning.png").stat().st_size > 0


def test_a_finished_run_goes_on_with_other_limits_and_repeats_nothing(workplace, tmp_path, capsys):
    out = tmp_path / "run"
    first = learn(workplace(stop={"rounds": 1}), out, capsys)
    journal = (out / "journal.jsonl").read_text()
    labels = read_frames(out / "labels.extxyz")
    again = learn(workplace(stop={"rounds": 1}), out, capsys)
    assert (out / "journal.jsonl").read_text() == journal
    assert again == first
    more = learn(workplace(stop={"rounds": 2}), out, capsys)
    assert more["rounds"][0] == first["rounds"][0]
    assert (out / "journal.jsonl").read_text().startswith(journal)
    kept = read_frames(out / "labels.extxyz")[: len(labels)]
    assert [f.tags["label_wall_s"] for f in kept] == [f.tags["label_wall_s"] for f in labels]
    message = learn(workplace(md={"time_ps": 0.7}), out, capsys, code=2)
    assert "was begun with md.time_ps = 0.6, not 0.7" in message
    message = learn(workplace(label={"options": {"asap_cutoff": True}}), out, capsys, code=2)
    assert "was begun with label" in message


def test_own_labels_are_adopted_and_held_out_files_are_never_trained_on(workplace, tmp_path, capsys):
    before = learn(workplace(stop={"rounds": 1}), tmp_path / "before", capsys)
    labels = read_frames(tmp_path / "before" / "labels.extxyz")
    write(tmp_path / "test.extxyz", [frame.to_atoms() for frame in labels[3:5]])
    (tmp_path / "start.extxyz").write_bytes((tmp_path / "before" / "labels.extxyz").read_bytes())
    config = workplace(stop={"rounds": 1}, test="test.extxyz", start="start.extxyz")
    after = learn(config, tmp_path / "after", capsys)
    adopted = read_frames(tmp_path / "after" / "labels.extxyz")[: len(labels)]
    assert [f.tags["label_wall_s"] for f in adopted] == [f.tags["label_wall_s"] for f in labels]
    assert after["rounds"][0]["n_train"] == before["n_labels"]  # frames of 'start' stay there, also those in 'test'
    write(tmp_path / "start.extxyz", [frame.to_atoms() for frame in labels[:3]])
    after = learn(config, tmp_path / "third", capsys)
    assert after["rounds"][0]["n_train"] == 3
    held_out = after["rounds"][0]["held_out"]["n_frames"]
    assert held_out == 2 + after["rounds"][0]["n_drawn"]


def test_it_stops_when_it_is_calm_or_accurate_or_has_labels_enough(workplace, tmp_path, capsys):
    calm = workplace(md={"temperatures_k": [300]}, select={"grade_limit": 1e3}, stop={"rounds": 9})
    result = learn(calm, tmp_path / "calm", capsys)
    assert result["reason"] == "calm"
    assert len(result["rounds"]) == 2
    for record in result["rounds"]:  # nothing is beyond the limit, and the most uncertain frames are labelled
        assert (record["n_candidates"], record["n_chosen"], record["n_drawn"]) == (0, 4, 2)
        assert {run["end"] for run in record["runs"]} == {"done"}
        assert record["drawn"]["force_mae_mev_per_ang"] > 0.0
    assert len(result["models"]) == 3
    accurate = workplace(stop={"rounds": 9, "force_mae_mev_per_ang": 1e4})
    assert learn(accurate, tmp_path / "accurate", capsys)["reason"] == "accurate"
    short = learn(workplace(stop={"rounds": 9, "labels": 7}), tmp_path / "labels", capsys)
    assert (short["reason"], short["n_labels"]) == ("labels", 7)


def test_a_dry_run_writes_nothing_and_tells_everything(workplace, tmp_path, capsys):
    result = learn(workplace(), tmp_path / "run", capsys, "--dry-run")
    assert result["config"]["md"]["time_ps"] == 0.6
    assert result["config"]["select"]["grade_limit"] is None
    assert not (tmp_path / "run").exists()


def test_labels_that_fail_are_counted_and_too_few_are_an_error(workplace, tmp_path, capsys):
    frames = read(tmp_path / "start.extxyz", index=":")
    for atoms in frames[:4]:
        atoms.symbols[0] = "Zn"  # an element that EMT does not know
    write(tmp_path / "start.extxyz", frames)
    message = learn(workplace(), tmp_path / "run", capsys, code=2)
    assert "1 of 5 frames could be labelled" in message
    assert "labels.failures.extxyz" in message
