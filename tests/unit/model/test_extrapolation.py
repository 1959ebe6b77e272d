"""Extrapolation grades: their scale, their invariances, and that they notice what training has not seen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read
from hypothesis import given
from hypothesis import strategies as st

from qiskit_qff.errors import ConfigError, ModelFileError
from qiskit_qff.model.domain import TrainingDomain
from qiskit_qff.model.extrapolation import MARGIN, Grader
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame


@pytest.fixture(scope="module")
def field(trained):
    return ForceField.load(trained / "run" / "model.json")


@pytest.fixture(scope="module")
def grader(field):
    return Grader.of(field.models, r_cut=field.r_cut)


@pytest.fixture(scope="module")
def training_frames(trained):
    chosen = json.loads((trained / "run" / "metrics.json").read_text())["train_frames"]
    frames = read(trained / "data.extxyz", ":")
    return [Frame.from_atoms(frames[k]) for k in chosen]


def test_training_atoms_have_a_mean_square_of_one_and_none_exceeds_the_largest(field, grader, training_frames):
    graded = [grader.frame(frame) for frame in training_frames]
    numbers = np.concatenate([frame.numbers for frame in training_frames])
    values = np.concatenate([grades.values for grades in graded])
    for model in field.models:
        own = values[numbers == model.number]
        assert np.mean(own**2) == pytest.approx(1.0, rel=1e-9)
        assert own.max() == pytest.approx(model.domain.largest, rel=1e-9)
        assert model.domain.count == len(own)
    assert not np.concatenate([grades.outside for grades in graded]).any()


def test_rotation_translation_and_order_of_atoms_do_not_matter(grader, training_frames, rng):
    frame = training_frames[0]
    before = grader.frame(frame).values
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = replace(frame, positions=frame.positions @ turn.T + rng.normal(size=3), cell=frame.cell @ turn.T)
    np.testing.assert_allclose(grader.frame(turned).values, before, rtol=1e-8)
    order = rng.permutation(frame.n_atoms)
    shuffled = Frame(frame.numbers[order], frame.positions[order], frame.cell, frame.pbc)
    np.testing.assert_allclose(grader.frame(shuffled).values, before[order], rtol=1e-9)


def test_supercell_has_the_grades_of_its_cell(grader, training_frames):
    frame = training_frames[0]
    repeated = Frame.from_atoms(frame.to_atoms() * (2, 1, 1))
    np.testing.assert_allclose(grader.frame(repeated).values, np.tile(grader.frame(frame).values, 2), rtol=1e-9)


def test_grade_grows_with_strain_until_it_is_noticed(grader, training_frames):
    frame = training_frames[0]
    worst = []
    for strain in (1.0, 0.94, 0.88, 0.82):
        squeezed = replace(frame, positions=frame.positions * strain, cell=frame.cell * strain)
        worst.append(grader.frame(squeezed).values.max())
    assert worst == sorted(worst)
    assert grader.frame(squeezed).outside.any()


def test_atoms_closer_than_any_in_training_stand_out(grader, training_frames):
    frame = training_frames[0]
    positions = frame.positions.copy()
    near = frame.to_atoms().get_distances(0, range(1, frame.n_atoms), mic=True).argmin() + 1
    bond = frame.to_atoms().get_distance(0, near, mic=True, vector=True)
    positions[0] += 0.5 * bond
    before, grades = grader.frame(frame), grader.frame(replace(frame, positions=positions))
    assert (grades.values[[0, near]] > before.values[[0, near]]).all()
    assert grades.outside[[0, near]].any()
    assert grades.worst in {0, near}


@given(seed=st.integers(0, 2**16), size=st.integers(1, 6), count=st.integers(1, 40))
def test_grade_does_not_change_when_features_are_mixed(seed, size, count):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count + 3 * size, size))
    mix = rng.normal(size=(size, size)) + 4.0 * np.eye(size)
    one, other = (TrainingDomain(len(y), y.T @ y / len(y), 1.0).grades(y) for y in (features, features @ mix.T))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_fewer_atoms_than_features_still_have_a_mean_square_of_one(rng):
    features = rng.normal(size=(3, 8))
    domain = TrainingDomain(3, features.T @ features / 3, 1.0)
    assert np.mean(domain.grades(features) ** 2) == pytest.approx(1.0)
    assert domain.grades(rng.normal(size=(20, 8))).min() > 3.0


def test_file_keeps_the_domain_and_ledger_counts_it_as_label_free(field, tmp_path):
    field.save(tmp_path / "model.json")
    again = ForceField.load(tmp_path / "model.json")
    for before, after in zip(field.models, again.models, strict=True):
        np.testing.assert_array_equal(before.domain.moments, after.domain.moments)
        assert (before.domain.count, before.domain.largest) == (after.domain.count, after.domain.largest)
    bare = replace(field, models=tuple(replace(m, domain=None) for m in field.models))
    assert field.n_trainable == bare.n_trainable
    held = sum(m.domain.n_numbers for m in field.models)
    apart = [f.ledger.to_dict()["not_trained"]["label_free_numbers"] for f in (field, bare)]
    assert apart[0] - apart[1] == held


def test_older_file_is_read_and_says_what_it_lacks(field, tmp_path):
    old = replace(field, models=tuple(replace(m, domain=None) for m in field.models))
    old.save(tmp_path / "model.json")
    again = ForceField.load(tmp_path / "model.json")
    assert "domain" not in (tmp_path / "model.json").read_text()
    with pytest.raises(ConfigError, match="train it again"):
        Grader.of(again.models, r_cut=again.r_cut)


def test_damaged_domain_is_refused(field, tmp_path):
    document = field.to_dict()
    document["species"][0]["domain"]["moments"].pop()
    with pytest.raises(ConfigError, match="triangle"):
        ForceField.from_dict(document)
    document["species"][0]["domain"]["moments"] = [1.0]
    (tmp_path / "model.json").write_text(json.dumps({"format": "qiskit_qff model", "version": 1, **document}))
    with pytest.raises(ModelFileError, match="training domain"):
        ForceField.load(tmp_path / "model.json")


def test_limit_comes_from_training_unless_given(field, grader):
    expected = [MARGIN * model.domain.largest for model in field.models]
    np.testing.assert_allclose(grader.limits, expected)
    np.testing.assert_array_equal(Grader.of(field.models, r_cut=field.r_cut, limit=2.5).limits, 2.5)
    with pytest.raises(ConfigError, match="positive"):
        Grader.of(field.models, r_cut=field.r_cut, limit=0.0)
