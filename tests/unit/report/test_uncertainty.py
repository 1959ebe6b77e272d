"""The committee, its factor and its coverage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read

from qiskit_qff.errors import ConfigError
from qiskit_qff.model.coverage import Spreads, coverage, cross_checked_coverage
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.spread import ParameterSpread
from qiskit_qff.model.uncertainty import Committee, calibration_factor
from qiskit_qff.report.uncertainty import coverage_figure
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
    kinds, near = Grader.of(field.models, r_cut=field.r_cut).surroundings(frame)
    own, step = field.predict(frame), 1e-4
    found = Committee.of(field).members[3].evaluate(kinds, near)

    def moved(sign):
        """Every parameter moved by a small part of the deviation, the mean environment's energy included."""
        models = []
        for m in field.models:
            other = replace(
                m,
                theta=m.theta + sign * step * m.spread.theta[3],
                weights=m.weights + sign * step * m.spread.weights[3],
            )
            reference = m.reference_energy + sign * step * m.spread.references[3] - (other.origin() - m.origin())
            models.append(replace(other, reference_energy=reference))
        return replace(field, models=tuple(models)).predict(frame)

    up, down = moved(1.0), moved(-1.0)
    slope = (up.forces - down.forces) / (2 * step)
    np.testing.assert_allclose(found.forces - own.forces, slope, atol=1e-4 * np.abs(slope).max())
    assert found.energy - own.energy == pytest.approx((up.energy - down.energy) / (2 * step), rel=1e-4)
    assert len(Committee.of(field).members) == 16


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
    # The deviation of one shared reference energy is kept for each species, and of tied numbers all.
    ledger = field.ledger
    each = sum(entry.angles + entry.weights for entry in ledger.species) + len(ledger.species)
    assert ledger.to_dict()["not_trained"]["uncertainty_numbers"] == 16 * each
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
