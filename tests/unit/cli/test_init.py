"""``qff init``: what it writes is what ``qff train`` reads, and says why."""

import json

import numpy as np
import pytest
import yaml
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from qiskit_qff.cli.main import run
from qiskit_qff.model.config import TrainConfig, load_config
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.training.defaults import with_data_defaults


@pytest.fixture
def place(alloy_frames, tmp_path, monkeypatch):
    write(tmp_path / "data.extxyz", alloy_frames)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def trajectory(start, n_frames: int, *, step: float) -> list:
    """Frames that drift slowly from the first one."""
    rng, frames, atoms = np.random.default_rng(5), [], start.copy()
    for _ in range(n_frames):
        atoms = atoms.copy()
        atoms.positions += rng.normal(0.0, step, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


def test_the_configuration_is_that_of_training_the_data(place, capsys) -> None:
    assert run(["init", "data.extxyz", "--json"]) == 0
    written = last_json(capsys)
    assert written["settings"]["data"] == {
        "path": "data.extxyz", "split": "random", "test_fraction": 0.2, "group": "replica", "framework": "any"
    }  # fmt: skip
    text = (place / "config.yaml").read_text()
    assert yaml.safe_load(text) == written["settings"]
    assert run(["train", "config.yaml", "--out", "run", "--dry-run", "--json"]) == 0
    from_file = last_json(capsys)["config"]
    assert run(["train", "data.extxyz", "--out", "run", "--dry-run", "--json"]) == 0
    plain = TrainConfig.model_validate(last_json(capsys)["config"])
    assert from_file == with_data_defaults(plain, read_frames(place / "data.extxyz")).model_dump(mode="json")


def test_every_key_is_explained(place, capsys) -> None:
    assert run(["init", "data.extxyz"]) == 0
    assert "data.split = random" in capsys.readouterr().out
    lines = (place / "config.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    assert len(keys) > 40
    for number in keys:
        assert lines[number - 1].lstrip().startswith("#") or lines[number - 1].startswith(tuple("acdelo")), lines[
            number
        ]
    assert "qff train config.yaml --out run" in lines[4]
    assert max(map(len, lines)) <= 100


def test_stresses_are_mentioned_where_there_are_some(place, alloy_frames, capsys) -> None:
    for name, told in (("data.extxyz", True), ("bare.extxyz", False)):
        if not told:
            write(place / name, [bare(atoms) for atoms in alloy_frames])
        assert run(["init", name, "--out", f"{name}.yaml", "--json"]) == 0
        notes = last_json(capsys)["notes"]
        assert ("loss.stress_scale_mev_per_ang3" in notes) == told
        assert ("12 of 12 frames have a stress" in (place / f"{name}.yaml").read_text()) == told
        assert load_config(place / f"{name}.yaml").loss.stress_scale_mev_per_ang3 is None


def bare(atoms):
    """The structure with energy and forces alone."""
    other = atoms.copy()
    other.calc = SinglePointCalculator(other, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return other


def test_a_trajectory_is_held_out_by_block(place, alloy_frames, capsys) -> None:
    write(place / "run.extxyz", trajectory(alloy_frames[0], 20, step=0.02))
    assert run(["init", "run.extxyz", "--json"]) == 0
    written = last_json(capsys)
    assert written["settings"]["data"]["split"] == "block"
    assert "trajectory" in written["notes"]["data.split"]
    assert load_config(place / "config.yaml").data.split == "block"


def test_groups_are_held_out_in_equal_shares(place, capsys) -> None:
    frames = read(place / "data.extxyz", ":")
    for number, atoms in enumerate(frames):
        atoms.info["phase"] = "hot" if number % 2 else "cold"
    write(place / "tagged.extxyz", frames)
    assert run(["init", "tagged.extxyz", "--json"]) == 0
    written = last_json(capsys)
    assert written["settings"]["data"]["split"] == "balanced"
    assert written["settings"]["data"]["group"] == "phase"
    assert "2 groups" in written["notes"]["data.split"]


def test_many_atoms_mean_a_longer_cutoff(place, alloy_frames, capsys) -> None:
    large = [atoms.repeat((6, 7, 7)) for atoms in alloy_frames[:5]]
    for atoms in large:
        atoms.calc = SinglePointCalculator(atoms, energy=-float(len(atoms)), forces=0.1 + 0.0 * atoms.positions)
    write(place / "large.extxyz", large)
    assert run(["init", "large.extxyz", "--json"]) == 0
    descriptor = last_json(capsys)["settings"]["descriptor"]
    assert (descriptor["r_cut"], descriptor["n_radial"]) == (6.0, 7)


def test_paths_start_at_the_configuration(place, capsys) -> None:
    (place / "deep").mkdir()
    assert run(["init", "data.extxyz", "--out", "deep/one.yaml"]) == 0
    assert load_config(place / "deep/one.yaml").data.path == str(place / "data.extxyz")
    (place / "data.extxyz").rename(place / "deep/data.extxyz")
    assert run(["init", "deep/data.extxyz", "deep/data.extxyz", "--out", "deep/two.yaml"]) == 0
    assert load_config(place / "deep/two.yaml").data.path == ["data.extxyz", "data.extxyz"]
    assert "warnings about the data: qff validate" in capsys.readouterr().err  # every frame is there twice
    assert run(["train", "deep/two.yaml", "--out", "out", "--dry-run"]) == 0


def test_nothing_is_overwritten(place, capsys) -> None:
    (place / "config.yaml").write_text("mine")
    for arguments, words in (
        (["init", "data.extxyz"], "--force"),
        (["init", "data.extxyz", "--out", "config.json"], "ends in .yaml"),
        (["init", "data.extxyz", "--out", "absent/config.yaml"], "make it first"),
        (["init", "absent.extxyz", "--out", "other.yaml"], "absent.extxyz"),
    ):
        assert run(arguments) == 2
        assert words in capsys.readouterr().err
    assert (place / "config.yaml").read_text() == "mine"
    assert sorted(path.name for path in place.iterdir()) == ["config.yaml", "data.extxyz"]
    assert run(["init", "data.extxyz", "--force"]) == 0
    assert load_config(place / "config.yaml").max_parameters == 99


def test_unlabelled_data_are_refused(place, alloy_frames, capsys) -> None:
    write(place / "bare.extxyz", [atoms.copy() for atoms in alloy_frames])
    assert run(["init", "bare.extxyz"]) == 2
    assert "energy" in capsys.readouterr().err
