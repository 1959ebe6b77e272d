"""The committee, its factor and its coverage."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read

from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.coverage import Spreads, coverage, cross_checked_coverage
from qiskit_qff.model.extrapolation import Grader
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.sensitivity import environments
from qiskit_qff.model.spread import ModelSpread
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


def test_a_member_is_the_model_with_its_operators_moved(field, frame):
    kinds, near = Grader.of(field.models, r_cut=field.r_cut).surroundings(frame)
    own, found = field.predict(frame), Committee.of(field).members[3].evaluate(kinds, near)
    seen, energy, forces = environments(field, frame), 0.0, np.zeros(own.forces.size)
    for key, change in moves(field, 3).items():
        full = np.zeros((2 ** field.registers[key].n_qubits,) * 2)
        full[: len(change), : len(change)] = change
        energy += np.sum(seen.energy_weights(key) * full)
        forces += np.sum(seen.force_weights(key) * full, axis=(1, 2))
    energy += sum(m.spread.references[3] * np.sum(frame.numbers == m.number) for m in field.models)
    np.testing.assert_allclose((found.forces - own.forces).ravel(), forces, atol=1e-9 * np.abs(forces).max())
    assert found.energy - own.energy == pytest.approx(energy, rel=1e-7)
    assert len(Committee.of(field).members) == 16


def moves(field, k):
    """What one member adds to M of every register."""
    found = {}
    for m in field.models:
        place = 0
        for r, register in enumerate(m.registers):
            upper = np.triu_indices(register.n_features + 1)
            change = np.zeros((register.n_features + 1,) * 2)
            change[upper] = m.spread.triangles[k, place : place + len(upper[0])]
            found[m.number, r], place = change + np.triu(change, 1).T, place + len(upper[0])
    return found


def test_members_are_reached_by_small_moves_of_the_parameters(field):
    for key, change in moves(field, 3).items():
        bound = field.registers[key].bound_program()
        slopes = np.tensordot(bound.weights, readout_jacobian(bound.program, bound.theta), axes=(0, 1))
        slopes = np.concatenate([slopes, readout_matrices(bound.program, bound.theta)])
        slopes = slopes[:, : len(change), : len(change)].reshape(len(slopes), -1)[:, 1:]  # without M_00
        wanted = change.ravel()[1:]
        steps = np.linalg.lstsq(slopes.T, wanted, rcond=None)[0]
        np.testing.assert_allclose(steps @ slopes, wanted, atol=1e-6 * np.abs(wanted).max())


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
    sizes = [register.n_features + 1 for register in field.registers.values()]
    each = sum(size * (size + 1) // 2 for size in sizes) + len(field.species)
    assert field.ledger.to_dict()["not_trained"]["uncertainty_numbers"] == 16 * each
    np.testing.assert_array_equal(bare.predict(frame).forces, field.predict(frame).forces)
    with pytest.raises(ConfigError, match="no committee"):
        Committee.of(bare)


def test_changed_parameters_drop_the_committee(field):
    key, register = next(iter(field.registers.items()))
    changed = field.with_registers({key: replace(register, theta=register.theta + 0.1, balanced=False)})
    assert [m.spread is None for m in changed.models] == [True, False]


def test_damaged_committee_is_refused(field):
    spread = field.models[0].spread
    with pytest.raises(ConfigError, match="members"):
        ModelSpread(spread.triangles[:3], spread.references)
    with pytest.raises(ConfigError, match="other registers"):
        replace(field.models[0], spread=replace(spread, triangles=spread.triangles[:, :2]))


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
