"""Forces of a device beside the exact ones: figures of merit, the report's section, the picture with arrows."""

import numpy as np
import pytest

from qiskit_qff.errors import DataError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.report.device_forces import HEADER, DeviceForces, device_section
from qiskit_qff.report.device_run import read_device_run, write_device_forces
from qiskit_qff.report.force_arrows import force_arrows
from qiskit_qff.report.html import Page, render
from qiskit_qff.structures.reading import read_frames


def entry(name: str, scatter: float, rng: np.random.Generator, *, reported: float | None = None) -> DeviceForces:
    exact = rng.normal(0.0, 1.0, (400, 3))
    std_errors = np.full(exact.shape, scatter if reported is None else reported)
    return DeviceForces(name, exact, exact + rng.normal(0.0, scatter, exact.shape), std_errors, Cost(8, 800, 2.2))


def test_figures_of_merit_of_normal_noise(rng):
    measured = entry("a", 0.05, rng)
    assert measured.mae == pytest.approx(50.0 * np.sqrt(2.0 / np.pi), rel=0.06)
    assert measured.std_error == pytest.approx(50.0)
    assert measured.covered == pytest.approx(0.954, abs=0.02)


def test_errors_reported_too_small_show_in_the_coverage(rng):
    assert entry("a", 0.05, rng, reported=0.02).covered < 0.65


def test_section_says_what_the_table_says(rng):
    measured = [entry("plain", 0.05, rng), entry("<mitigated>", 0.02, rng)]
    section = device_section(measured, title="On a device", text=("why",))
    assert section.tables[0].header == HEADER
    assert [row[1] for row in section.tables[0].rows] == [m.to_dict()["force_mae_mev_per_ang"] for m in measured]
    page = render(Page(title="t", lead=(), tiles=(), sections=(section,), footer=""))
    assert "&lt;mitigated&gt;" in page
    assert page.count("<figure>") == 2


def test_kept_beside_a_run_and_read_back(rng, tmp_path):
    measured = [entry("plain", 0.05, rng), entry("mitigated", 0.02, rng)]
    write_device_forces(tmp_path, measured, text=("why",))
    part = read_device_run(tmp_path)
    again, before = part.sections[0], device_section(measured, title="On a device", text=("why",))
    assert again.text == before.text
    for one, other in zip(again.tables[0].rows, before.tables[0].rows, strict=True):
        assert one[1:3] == pytest.approx(other[1:3], abs=0.05)
        assert one[3:] == other[3:]
    (tmp_path / "device.json").write_text('{"format": "qiskit_qff device forces", "version": 2}')
    with pytest.raises(DataError, match="Upgrade"):
        read_device_run(tmp_path)
    (tmp_path / "device.json").write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        read_device_run(tmp_path)


@pytest.mark.parametrize("pbc", [True, False])
def test_arrows_start_at_the_nearest_atoms_and_have_the_length_of_the_force(trained, rng, pbc):
    frame = read_frames(trained / "data.extxyz")[0]
    if not pbc:
        atoms = frame.to_atoms()
        atoms.pbc = False
        frame = type(frame).from_atoms(atoms)
    exact = rng.normal(0.0, 1.0, (frame.n_atoms, 3))
    measured = exact + rng.normal(0.0, 0.1, exact.shape)
    figure = force_arrows(frame, exact, {"device": measured}, centre=1, n_atoms=5, ang_per_force=0.5, magnified=4.0)
    left, right = figure.axes
    quivers = [[q for q in axes.collections if hasattr(q, "U")] for axes in (left, right)]
    assert [len(found) for found in quivers] == [2, 1]
    assert all(q.N == 5 for found in quivers for q in found)
    (truth, device), (deviation,) = quivers
    np.testing.assert_allclose(deviation.U, 4.0 * (device.U - truth.U), atol=1e-12)
    np.testing.assert_allclose(deviation.V, 4.0 * (device.V - truth.V), atol=1e-12)
    assert np.all(np.hypot(truth.U, truth.V) <= 0.5 * np.linalg.norm(exact, axis=1).max() + 1e-12)
