"""Labelling in worker processes that crash, hang and are killed: nothing finished is lost, nothing is dropped."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from contracts.labelling.misbehaving import Misbehaving

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.labelling.journal import Journal
from qiskit_qff.labelling.options import read_options
from qiskit_qff.labelling.registry import make_labeller
from qiskit_qff.labelling.run import failures_path, frame_id, label_frames, work_path
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

CELL = np.diag([5.0, 6.0, 7.0])


def frames_that(*does: str) -> list[Frame]:
    """Frames of three atoms, with what they do to the labeller."""
    rng = np.random.default_rng(8)
    return [
        Frame(
            numbers=[3, 16, 15],
            positions=rng.uniform(0.0, 5.0, (3, 3)),
            cell=CELL,
            pbc=[True] * 3,
            energy=99.0,
            source="somewhere/many.extxyz",
            index=index,
            tags={"number": index, "label_wall_s": 3.0} | ({"does": word} if word else {}),
        )
        for index, word in enumerate(does)
    ]


def test_labels_come_with_provenance_in_the_order_of_the_frames(tmp_path) -> None:
    frames, out = frames_that(*[""] * 7), tmp_path / "new" / "labels.extxyz"
    calls: list[tuple[int, int, int]] = []
    # Long enough for the second worker to start before the first has done everything.
    program = Misbehaving(delay=0.5)
    report = label_frames(frames, program, out, workers=2, progress=lambda *counts: calls.append(counts))
    assert (report.n_labelled, report.n_kept, report.failures) == (7, 0, ())
    assert calls[-1] == (7, 0, 7)
    assert len(report.seconds) == 7
    found = read_frames(out)
    assert [frame.tags["number"] for frame in found] == list(range(7))
    for frame, given in zip(found, frames, strict=True):
        assert frame.energy == pytest.approx((given.positions**2).sum(), abs=1e-6)
        assert frame.forces == pytest.approx(-2.0 * given.positions, abs=1e-7)
        assert frame.stress == pytest.approx(0.01 * np.eye(3))
        tags = frame.tags
        assert (tags["label_calculator"], tags["label_version"], tags["label_level"]) == (
            "springs",
            "springs 1",
            "harmonic",
        )
        assert tags["label_source"] == f"many.extxyz frame {given.index}"  # no directory of this machine
        assert tags["label_id"] == frame_id(given)
        assert 0.5 <= float(tags["label_wall_s"]) < 3.0
        age = datetime.now(UTC) - datetime.fromisoformat(str(tags["label_finished"]))
        assert 0.0 <= age.total_seconds() < 120.0
    assert read(out, 0).arrays["spring_lengths"] == pytest.approx([0.0, 0.1, 0.2])
    assert len({frame.tags["label_pid"] for frame in found}) == 2
    assert not failures_path(out).exists()
    assert not work_path(out).exists()


def test_trouble_costs_one_frame_each_and_is_kept_with_its_message(tmp_path) -> None:
    frames, out = frames_that("", "crash", "", "nan", "hang", "raise", ""), tmp_path / "labels.extxyz"
    report = label_frames(frames, Misbehaving(), out, timeout=2.0)
    assert report.n_labelled == 3
    assert [(failure.index, failure.kind) for failure in report.failures] == [
        (1, "crash"),
        (3, "not-finite"),
        (4, "timeout"),
        (5, "not-converged"),
    ]
    messages = [failure.message for failure in report.failures]
    assert "139" in messages[0]
    assert "segmentation fault" in messages[0]
    assert "atom 1" in messages[1]
    assert messages[3] == "the SCF ran away"
    kept = read_frames(failures_path(out))
    assert [frame.tags["number"] for frame in kept] == [1, 3, 4, 5]
    assert [frame.tags["failure_message"] for frame in kept] == messages
    assert all(frame.energy is None for frame in kept)
    for frame in kept:
        assert (work_path(out) / "failed" / frame_id(frame) / "input").read_text() == "springs"
    program = int((work_path(out) / "failed" / frame_id(kept[2]) / "pid").read_text())
    _wait(lambda: not _is_running(program))  # the program that hung was stopped with its worker


def test_resuming_does_only_what_is_missing(tmp_path) -> None:
    frames, out = frames_that("", "raise", "", ""), tmp_path / "labels.extxyz"
    label_frames(frames[:2], Misbehaving(), out)
    first = out.read_text()
    added = [frames[3], *frames]  # more frames, one of them in front, and one twice
    report = label_frames(added, Misbehaving(), out)
    assert (report.n_labelled, report.n_kept, len(report.failures)) == (3, 1, 1)
    assert [frame.tags["number"] for frame in read_frames(out)] == [3, 0, 2, 3]
    assert first in out.read_text()
    report = label_frames(added, Misbehaving(healed=True), out, retry_failed=True)
    assert (report.n_labelled, report.n_kept, report.failures) == (1, 4, ())
    assert [frame.tags["number"] for frame in read_frames(out)] == [3, 0, 1, 2, 3]
    assert not failures_path(out).exists()
    assert label_frames(added, Misbehaving(), out).n_kept == 5


def test_other_settings_never_enter_the_file(tmp_path) -> None:
    frames, out = frames_that("", ""), tmp_path / "labels.extxyz"
    label_frames(frames[:1], Misbehaving(), out)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="must not be mixed"):
        label_frames(frames, Misbehaving(settings_hash="h2"), out)
    assert out.read_bytes() == before


def test_a_torn_frame_is_cut_off_and_done_again(tmp_path) -> None:
    frames, out = frames_that(*[""] * 3), tmp_path / "labels.extxyz"
    label_frames(frames, Misbehaving(), out)
    whole = out.read_bytes()
    last = whole.rindex(b"\n3\n") + 1
    for cut in (len(whole) - 1, last + 100, last + 1):
        out.write_bytes(whole[:cut])
        report = label_frames(frames, Misbehaving(), out)
        assert (report.n_labelled, report.n_kept) == (1, 2)
        assert [frame.energy for frame in read_frames(out)] == pytest.approx(
            [f.energy for f in _parsed(whole, tmp_path)]
        )


def _parsed(content: bytes, directory: Path) -> list[Frame]:
    (directory / "whole.extxyz").write_bytes(content)
    return read_frames(directory / "whole.extxyz")


def test_a_file_of_something_else_is_left_alone(tmp_path) -> None:
    out = tmp_path / "labels.extxyz"
    out.write_text("precious notes\n")
    with pytest.raises(DataError, match="nothing is appended"):
        label_frames(frames_that(""), Misbehaving(), out)
    assert out.read_text() == "precious notes\n"


def test_a_damaged_file_of_failures_leaves_nothing_behind(tmp_path) -> None:
    out = tmp_path / "labels.extxyz"
    failures_path(out).write_text("not a frame\n")
    with pytest.raises(DataError, match="nothing is appended"):
        label_frames(frames_that(""), Misbehaving(), out)
    assert not out.exists()
    Journal(out).close()  # no lock is left, either


def test_two_processes_do_not_write_to_one_file(tmp_path) -> None:
    journal = Journal(tmp_path / "labels.extxyz")
    with pytest.raises(ConfigError, match="another process"):
        Journal(tmp_path / "labels.extxyz")
    journal.close()
    assert not (tmp_path / "labels.extxyz").exists()


def test_files_of_the_program_are_kept_on_request(tmp_path) -> None:
    frames = frames_that("")
    label_frames(frames, Misbehaving(), tmp_path / "labels.extxyz", keep=tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [f"{frame_id(frames[0])}.tar.gz"]


def test_ids_tell_structures_apart() -> None:
    frame = frames_that("")[0]
    moved = replace(frame, positions=frame.positions + 1e-4)
    stretched = replace(frame, cell=frame.cell * 1.001)
    assert len({frame_id(f) for f in (frame, moved, stretched, replace(frame, pbc=[True, True, False]))}) == 4
    assert frame_id(frame) == frame_id(replace(frame, energy=None, tags={}, positions=frame.positions + 1e-10))


SCRIPT = """
import signal
import sys
from pathlib import Path
# What a shell has started in the background ignores Ctrl-C, and its children with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from contracts.labelling.misbehaving import Misbehaving
from qiskit_qff.labelling.run import label_frames
from qiskit_qff.structures.reading import read_frames
if __name__ == "__main__":
    label_frames(read_frames({data!r}), Misbehaving(delay=0.2), Path({out!r}), workers=2)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["kill -9", "Ctrl-C", "kill"])
def test_killed_runs_lose_no_finished_frame_and_leave_no_process(tmp_path, way) -> None:
    from ase.io import write

    data, out, script = (tmp_path / name for name in ("data.extxyz", "labels.extxyz", "run.py"))
    frames = frames_that(*[""] * 40)
    write(data, [replace(frame, energy=None).to_atoms() for frame in frames], format="extxyz")
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[2]), data=str(data), out=str(out)))
    run = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    _wait(lambda: out.exists() and out.read_bytes().count(b"label_id") >= 3)
    workers = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(workers) >= 2
    run.send_signal(way)
    run.wait(timeout=30)
    _wait(lambda: not any(_is_running(pid) for pid in workers))
    finished = out.read_bytes().count(b"label_id")
    assert 3 <= finished < 40
    report = label_frames(read_frames(data), Misbehaving(), out)
    assert report.n_kept in {finished, finished - 1}  # the last one may have been torn
    assert report.n_kept + report.n_labelled == 40
    assert [frame.tags["number"] for frame in read_frames(out)] == list(range(40))


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


def test_the_command_says_what_became_of_the_frames(tmp_path, capsys) -> None:
    from ase.build import bulk
    from ase.io import write

    from qiskit_qff.cli.main import run

    copper = [bulk("Cu", cubic=True), bulk("Si"), bulk("Au", cubic=True)]
    for seed, atoms in enumerate(copper):
        atoms.rattle(0.05, seed=seed)
    write(tmp_path / "in.extxyz", copper)
    command = [
        "label",
        str(tmp_path / "in.extxyz"),
        "--calculator",
        "emt",
        "--out",
        str(tmp_path / "out.extxyz"),
        "--json",
    ]
    assert run(command) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["n_frames"], result["n_labelled"], result["n_failed"]) == (3, 2, 1)
    assert result["failures"][0]["index"] == 1
    assert "Si" in result["failures"][0]["message"]
    assert run(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert run([*command, "--resume"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n_kept"] == 2
    assert (tmp_path / "out.failures.extxyz").exists()
    # The settings written beside the labels are options again.
    settings = tmp_path / "out.settings.yaml"
    assert make_labeller("emt", read_options("emt", settings)).settings_hash == result["settings"]
