"""Files that appear whole, directories that one process has: under errors, kills and a second process."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from qiskit_qff.cli.main import run
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


def test_a_file_is_the_old_or_the_new_one(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "old")
    killed_while(write_half, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2, "the kill left a partial file"
    write_atomically(path, b"new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "new")]
    assert path.stat().st_mode & 0o777 == 0o644


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
