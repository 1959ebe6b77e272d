"""Forces of a device beside the exact ones: figures of merit, and what is kept of them."""

import numpy as np
import pytest

from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.report.device import DeviceForces, write_device_forces
from qiskit_qff.report.directory import read_run
from qiskit_qff.report.page import render


def entry(name: str, scatter: float, rng: np.random.Generator, *, reported: float | None = None) -> DeviceForces:
    exact = rng.normal(0.0, 1.0, (400, 3))
    std_errors = np.full(exact.shape, scatter if reported is None else reported)
    return DeviceForces(name, exact, exact + rng.normal(0.0, scatter, exact.shape), std_errors, Cost(8, 800, 2.2))


def test_figures_of_merit_of_normal_noise(rng):
    measured = entry("a", 0.05, rng)
    assert measured.mae == pytest.approx(50.0 * np.sqrt(2.0 / np.pi), rel=0.06)
    assert measured.std_error == pytest.approx(50.0)
    assert measured.covered == pytest.approx(0.954, abs=0.02)
    assert entry("a", 0.05, rng, reported=0.02).covered < 0.65


def test_kept_beside_a_run_and_shown(rng, tmp_path):
    measured = [entry("plain", 0.05, rng), entry("<mitigated>", 0.02, rng)]
    write_device_forces(tmp_path, measured, text="why")
    (part,) = read_run(tmp_path)
    again = part.sections[0].data["measured"]
    assert [one.mae for one in again] == pytest.approx([one.mae for one in measured], abs=0.05)
    assert [one.cost for one in again] == [one.cost for one in measured]
    page = render({"run": [part]})
    assert "&lt;mitigated&gt;" in page
    assert "<p>why</p>" in page
    assert f"{again[0].mae:.4g}" in page
