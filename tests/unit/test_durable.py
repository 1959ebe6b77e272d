"""Files that appear whole, directories that one process has: under errors, kills and a second process."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from qiskit_qff.cli.main import run
from qiskit_qff.cli.output_directory import staged_directory
from qiskit_qff.durable import Journal, atomic_file, locked_directory, write_atomically
from qiskit_qff.errors import ConfigError, DataError

FORK = multiprocessing.get_context("fork")


def killed_while(action, *arguments):
    """Run in a process of its own until it says that it is ready, then kill it."""
    ready = FORK.Event()
    process = FORK.Process(target=action, args=(ready, *arguments))
    process.start()
    assert ready.wait(20.0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def write_half(ready, path):
    with atomic_file(path) as stream:
        stream.write(b"half")
        stream.flush()
        ready.set()
        time.sleep(60.0)


def hold(ready, directory):
    with locked_directory(directory):
        ready.set()
        time.sleep(60.0)


def stage(ready, target):
    with staged_directory(target) as staging:
        (staging / "model.json").write_text("half")
        ready.set()
        time.sleep(60.0)


def test_a_file_is_the_old_or_the_new_one(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    killed_while(write_half, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2, "the kill left a partial file"
    write_atomically(path, b"new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "new")]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_error_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "a[1].json"
    write_atomically(path, "old")
    with pytest.raises(ValueError, match="closed"), atomic_file(path) as stream:
        stream.close()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a[1].json", "old")]


def test_a_file_that_is_being_written_is_no_leftover(tmp_path) -> None:
    path = tmp_path / "a.json"
    with atomic_file(path) as first:
        first.write(b"first")
        write_atomically(path, "second")
    assert path.read_text() == "first"  # whoever ends last; neither is spoilt
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_not_to_be_replaced(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "mine", replace=False)
    with pytest.raises(FileExistsError):
        write_atomically(path, "theirs", replace=False)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "mine")]


def test_content_and_names_reach_the_disk_in_this_order(tmp_path, monkeypatch) -> None:
    events = []
    path = tmp_path / "a.json"
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(str(Path(f"/proc/self/fd/{fd}").readlink())) or sync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: events.append("rename") or replace(a, b))
    write_atomically(path, "content")
    assert events[0].startswith(str(tmp_path / ".a.json."))
    assert events[1:] == ["rename", str(tmp_path)]


def test_two_processes_in_one_directory(tmp_path) -> None:
    with (
        locked_directory(tmp_path),
        pytest.raises(ConfigError, match="another qff process"),
        locked_directory(tmp_path),
    ):
        pass
    with locked_directory(tmp_path):  # and free again
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path) -> None:
    killed_while(hold, tmp_path / "run")
    with locked_directory(tmp_path / "run"):
        pass


def test_two_processes_with_one_new_directory(tmp_path) -> None:
    target = tmp_path / "run"
    with staged_directory(target) as staging:
        (staging / "a").write_text("1")
        with pytest.raises(ConfigError, match="another qff process"), staged_directory(target):
            pass
        assert (staging / "a").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "a"]


def test_what_a_killed_process_staged_is_taken_over(tmp_path) -> None:
    target = tmp_path / "run"
    killed_while(stage, target)
    assert not target.exists()
    with staged_directory(target) as staging:
        assert list(staging.iterdir()) == []
        (staging / "model.json").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "model.json"]


def test_a_refused_directory_is_not_left_behind(tmp_path) -> None:
    with pytest.raises(ValueError, match="no"), locked_directory(tmp_path / "deep" / "run"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["train", "md"])
def test_commands_refuse_a_directory_in_use(trained, tmp_path, capsys, verb) -> None:
    out = tmp_path / "run"
    out.mkdir()
    commands = {
        "train": ["train", str(trained / "config.yaml"), "--backend", "exact", "--steps", "1", "--out", str(out)],
        "md": ["md", str(trained / "run"), str(trained / "data.extxyz"), "--steps", "1", "--out", str(out)],
    }
    with locked_directory(out):
        assert run(commands[verb]) == 2
    assert "another qff process is writing there" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_journal_does_nothing_twice_and_a_torn_line_again(tmp_path) -> None:
    path, done = tmp_path / "journal.jsonl", []

    def step(name):
        done.append(name)
        return {"loss": 1.5}

    def go_on():
        journal = Journal(path)
        results = [journal.once(name, lambda name=name: step(name)) for name in ("model 0", "model 1")]
        journal.close()
        return results

    assert go_on() == go_on() == [{"loss": 1.5}] * 2
    assert done == ["model 0", "model 1"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    go_on()
    assert done == ["model 0", "model 1", "model 1"]
    assert path.read_bytes() == whole
    path.write_text('{"event": "trained"}\n')
    with pytest.raises(DataError, match=r"line 1: is no entry"):
        Journal(path)
    journal = Journal(tmp_path / "other.jsonl")
    with pytest.raises(ConfigError, match="another process"):
        Journal(tmp_path / "other.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.once("model", lambda: float("nan"))
    journal.close()
    assert not (tmp_path / "other.jsonl").exists()


def failing_flock(number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    return flock


def test_a_file_system_without_locks_is_used_without_them(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_flock(errno.ENOLCK))
    command = ["md", str(trained / "run"), str(trained / "data.extxyz"), "--steps", "1", "--out", str(tmp_path / "run")]
    assert run(command) == 0


def test_a_lock_that_fails_otherwise_is_an_error(trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_flock(errno.EIO))
    command = ["md", str(trained / "run"), str(trained / "data.extxyz"), "--steps", "1", "--out", str(tmp_path / "run")]
    assert run(command) == 2
    assert f"{tmp_path / 'run'}: cannot be locked: Input/output error" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
