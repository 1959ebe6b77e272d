"""The committee, its factor and its coverage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.spread import ParameterSpread
from qiskit_qff.model.uncertainty import Committee, calibration_factor
from qiskit_qff.report.uncertainty import Spreads, coverage, coverage_figure, cross_checked_coverage
from qiskit_qff.structures.frame import Frame


@pytest.fixture(scope="module")
def field(trained):
    return ForceField.load(trained / "run" / "model.json")


@pytest.fixture(scope="module")
def frame(trained):
    return Frame.from_atoms(read(trained / "data.extxyz", 0))


def made_up(rng, *, n_frames=400, n_atoms=10, truth=3.0):
    """Normal errors that are ``truth`` times the spreads."""
    sizes = rng.uniform(0.5, 2.0, n_frames * n_atoms)
    energies = rng.uniform(0.5, 2.0, n_frames)
    return Spreads(
        energies=energies,
        energy_errors=truth * energies * rng.normal(size=n_frames),
        forces=sizes,
        force_errors=truth * sizes[:, None] * rng.normal(size=(len(sizes), 3)),
        frame_of=np.repeat(np.arange(n_frames), n_atoms),
    )


def test_normal_errors_are_covered_after_calibration(rng):
    spreads = made_up(rng)
    assert calibration_factor(spreads.force_errors, spreads.forces) == pytest.approx(3.0, rel=0.02)
    found = cross_checked_coverage(spreads)
    np.testing.assert_allclose(found.forces, found.nominal, atol=0.015)
    np.testing.assert_allclose(found.energies, found.nominal, atol=0.06)
    assert found.force_rank > 0.3


def test_uncertainties_that_are_too_small_cover_too_little(rng):
    spreads = made_up(rng)
    found = coverage(spreads, spreads.forces, spreads.energies)
    assert (found.forces < found.nominal - 0.05).all()


def test_committee_is_the_model_with_its_parameters_moved(field, frame):
    committee = Committee.of(replace(field, uncertainty=None))
    model = field.models[0]
    moved = replace(
        field,
        models=tuple(
            replace(m, theta=m.theta + m.spread.theta[3], weights=m.weights + m.spread.weights[3]) for m in field.models
        ),
    )
    kinds = np.array([field.species.index(z) for z in frame.numbers])
    constants = {
        m.number: m.spread.references[3] - (other.origin() - m.origin())
        for m, other in zip(field.models, moved.models, strict=True)
    }
    expected = moved.predict(frame)
    found = committee.members[3].evaluate(kinds, _neighbors(field, frame))
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-10)
    assert found.energy == pytest.approx(expected.energy + sum(constants[z] for z in frame.numbers), abs=1e-9)
    assert len(committee.members) == len(model.spread.references) == 16


def _neighbors(field, frame):
    from qiskit_qff.structures.neighbors import neighbor_list

    return neighbor_list(frame.positions, frame.cell, frame.pbc, field.r_cut)


def test_spread_does_not_depend_on_orientation_and_scales_with_the_factor(field, frame, rng):
    committee = Committee.of(field)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = replace(frame, positions=frame.positions @ turn.T, cell=frame.cell @ turn.T)
    one, other = committee.frame(frame), committee.frame(turned)
    np.testing.assert_allclose(one.forces, other.forces, rtol=1e-7)
    assert one.energy == pytest.approx(other.energy, rel=1e-7)
    bare = replace(committee, factor=1.0).frame(frame)
    np.testing.assert_allclose(one.forces, committee.factor * bare.forces)


def test_uncertainty_grows_outside_the_training_data(field, frame):
    committee = Committee.of(field)
    squeezed = replace(frame, positions=0.88 * frame.positions, cell=0.88 * frame.cell)
    assert committee.frame(squeezed).energy > 2.0 * committee.frame(frame).energy
    assert committee.frame(squeezed).forces.mean() > 2.0 * committee.frame(frame).forces.mean()


def test_file_keeps_the_committee_and_the_ledger_lists_it_apart(field, frame, tmp_path):
    field.save(tmp_path / "model.json")
    again = ForceField.load(tmp_path / "model.json")
    assert again.uncertainty == field.uncertainty
    np.testing.assert_array_equal(Committee.of(again).frame(frame).forces, Committee.of(field).frame(frame).forces)
    bare = replace(field, models=tuple(replace(m, spread=None) for m in field.models))
    assert bare.n_trainable == field.n_trainable
    assert field.ledger.to_dict()["not_trained"]["uncertainty_numbers"] == 16 * field.n_trainable
    np.testing.assert_array_equal(bare.predict(frame).forces, field.predict(frame).forces)
    with pytest.raises(ConfigError, match="no committee"):
        Committee.of(bare)


def test_changed_parameters_drop_the_committee(field):
    model = field.models[0]
    changed = field.with_parameters(theta={model.number: model.theta + 0.1})
    assert [m.spread is None for m in changed.models] == [True, False]


def test_damaged_committee_is_refused(field):
    spread = field.models[0].spread
    with pytest.raises(ConfigError, match="members"):
        ParameterSpread(spread.theta[:3], spread.weights, spread.references)
    with pytest.raises(ConfigError, match="angles or weights"):
        replace(field.models[0], spread=replace(spread, theta=spread.theta[:, :2]))


def test_training_reports_coverage_and_draws_it(trained, field):
    told = json.loads((trained / "run" / "metrics.json").read_text())["uncertainty"]
    assert told["factor"] == pytest.approx(field.uncertainty.factor)
    assert told["n_frames"] == 3
    assert len(told["forces"]) == len(told["nominal"]) == len(told["energies"])
    assert (np.diff(told["forces"]) >= 0).all()
    assert (trained / "run" / "figures" / "coverage.png").stat().st_size > 5000
    assert "Coverage on held-out frames" in (trained / "run" / "report.html").read_text()


def test_figure_shows_what_was_observed(rng):
    found = cross_checked_coverage(made_up(rng, n_frames=20))
    axes = coverage_figure(found).axes[0]
    _, forces, energies = axes.lines
    np.testing.assert_allclose(forces.get_ydata(), 100 * found.forces)
    np.testing.assert_allclose(energies.get_ydata(), 100 * found.energies)
