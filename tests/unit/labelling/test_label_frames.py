"""Labelling in worker processes that crash, hang and are killed: nothing finished is lost, nothing is dropped."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from contracts.labelling.springs import CRASH, FAIL, HANG, NAN

from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.label import failures_path, frame_id, label_frames, settings_path, work_path
from qiskit_qff.labelling.reference import reference
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame

SPRINGS = "contracts.labelling.springs:Springs"
CELL = np.diag([5.0, 6.0, 7.0])


def springs(**options):
    return reference(SPRINGS, options)


def frames_that(*does: str) -> list[Frame]:
    """Frames of three atoms, whose first says what they do to the calculator."""
    rng = np.random.default_rng(8)
    numbers = {"": 3, CRASH: 2, HANG: 10, FAIL: 18, NAN: 36}
    return [
        Frame(
            numbers=[numbers[word], 16, 15],
            positions=rng.uniform(0.0, 5.0, (3, 3)),
            cell=CELL,
            pbc=[True] * 3,
            energy=99.0,
            source="somewhere/many.extxyz",
            index=index,
            tags={"number": index, "label_wall_s": 3.0},
        )
        for index, word in enumerate(does)
    ]


def test_labels_come_with_provenance_in_the_order_of_the_frames(tmp_path) -> None:
    frames, out = frames_that(*[""] * 7), tmp_path / "new" / "labels.extxyz"
    calls: list[tuple[int, int, int]] = []
    chosen = springs(delay=0.5)  # long enough for the second worker to start before the first has done everything
    report = label_frames(frames, chosen, out, workers=2, progress=lambda *counts: calls.append(counts))
    assert (report.n_labelled, report.n_kept, report.failures) == (7, 0, ())
    assert calls[-1] == (7, 0, 7)
    found = read_frames(out)
    assert [frame.tags["number"] for frame in found] == list(range(7))
    for frame, given in zip(found, frames, strict=True):
        assert frame.energy == pytest.approx((given.positions**2).sum(), abs=1e-6)
        assert frame.forces == pytest.approx(-2.0 * given.positions, abs=1e-7)
        assert frame.stress == pytest.approx(0.01 * np.eye(3))
        tags = frame.tags
        assert (tags["label_calculator"], tags["label_settings"]) == (SPRINGS, chosen.settings_hash)
        assert tags["label_level"] == SPRINGS + ' {"delay": 0.5}'
        assert tags["label_source"] == f"many.extxyz frame {given.index}"  # no directory of this machine
        assert tags["label_id"] == frame_id(given)
        assert 0.5 <= float(tags["label_wall_s"]) < 3.0
        age = datetime.now(UTC) - datetime.fromisoformat(str(tags["label_finished"]))
        assert 0.0 <= age.total_seconds() < 120.0
    assert read(out, 0).calc.results["charges"] == pytest.approx([0.0, 0.1, 0.2])
    assert len({frame.tags["label_scf_iterations"] for frame in found}) == 2  # two processes
    assert sorted(path.name for path in out.parent.iterdir()) == ["labels.extxyz", "labels.settings.yaml"]
    assert reference(SPRINGS, settings_path(out)).settings_hash == chosen.settings_hash


def test_trouble_costs_one_frame_each_and_is_kept_with_its_reason(tmp_path) -> None:
    frames, out = frames_that("", CRASH, "", NAN, HANG, FAIL, ""), tmp_path / "labels.extxyz"
    pid_file = tmp_path / "pid"
    report = label_frames(frames, springs(pid_file=str(pid_file)), out, timeout=2.0)
    assert report.n_labelled == 3
    reasons = {failure["index"]: failure["reason"] for failure in report.failures}
    assert list(reasons) == [1, 3, 4, 5]
    assert reasons[1] == "crash: the worker process died (heap corrupted)"
    assert reasons[3] == "forces not finite on atom 1"
    assert reasons[4].startswith("time limit: not done after 2")
    assert reasons[5] == "the SCF ran away"
    kept = read_frames(failures_path(out))
    assert [frame.tags["failure"] for frame in kept] == list(reasons.values())
    assert all(frame.energy is None for frame in kept)
    program = int(pid_file.read_text())
    _wait(lambda: not _is_running(program))  # the program that hung was stopped with its worker


def test_resuming_does_only_what_is_missing(tmp_path) -> None:
    frames, out = frames_that("", FAIL, "", ""), tmp_path / "labels.extxyz"
    label_frames(frames[:2], springs(), out)
    first = out.read_text()
    added = [frames[3], *frames]  # more frames, one of them in front, and one twice
    report = label_frames(added, springs(), out)
    assert (report.n_labelled, report.n_kept) == (2, 1)
    assert [(failure["index"], failure["reason"]) for failure in report.failures] == [(2, "the SCF ran away")]
    assert [frame.tags["number"] for frame in read_frames(out)] == [3, 0, 2]
    assert first in out.read_text()
    healed = replace(springs(healed=True), settings=springs().settings)
    report = label_frames(added, healed, out, retry_failed=True)
    assert (report.n_labelled, report.n_kept, report.failures) == (1, 3, ())
    assert [frame.tags["number"] for frame in read_frames(out)] == [3, 0, 1, 2]
    assert not failures_path(out).exists()
    assert not work_path(out).exists()
    assert label_frames(added, springs(), out).n_kept == 4


def test_other_settings_never_enter_the_file(tmp_path) -> None:
    frames, out = frames_that("", ""), tmp_path / "labels.extxyz"
    label_frames(frames[:1], springs(), out)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="must not be mixed"):
        label_frames(frames, springs(strength=3.0), out)
    assert out.read_bytes() == before


def test_a_torn_frame_is_cut_off_and_done_again(tmp_path) -> None:
    frames, out = frames_that(*[""] * 3), tmp_path / "labels.extxyz"
    label_frames(frames, springs(), out)
    whole = out.read_bytes()
    last = whole.rindex(b"\n3\n") + 1
    for cut in (len(whole) - 1, last + 100):
        out.write_bytes(whole[:cut])
        report = label_frames(frames, springs(), out)
        assert (report.n_kept, report.n_labelled) == (2, 1)
        assert [frame.energy for frame in read_frames(out)] == pytest.approx([(f.positions**2).sum() for f in frames])


def _wait(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return status != "Z"


def test_the_command_says_what_became_of_the_frames(tmp_path, qff) -> None:
    structures = [bulk("Cu", cubic=True), bulk("Si"), bulk("Au", cubic=True)]
    for seed, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=seed)
    data, out, failed = (tmp_path / name for name in ("in.extxyz", "out.extxyz", "out.failures.extxyz"))
    write(data, structures)
    command = ["label", data, "--calculator", "emt", "--out", out]
    result, _ = qff(*command, code=1)
    assert (result["n_frames"], result["n_labelled"], result["n_failed"]) == (3, 2, 1)
    assert result["failures"][0]["index"] == 1
    assert "Si" in result["failures"][0]["reason"]
    assert result["failures_file"] == str(failed)
    assert "--resume" in qff(*command, code=2)[1]
    assert qff(*command, "--resume", code=1)[0]["n_kept"] == 2
    for read_from, written in ((data, data), (failed, out)):
        _, errors = qff("label", read_from, "--calculator", "emt", "--out", written, "--resume", code=2)
        assert "read and written at once" in errors
