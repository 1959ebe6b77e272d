"""The command line's frame: exit codes, one-line errors, the JSON line, and safe output directories."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qiskit_qff.cli import main
from qiskit_qff.cli.output import Output, check_output_directory, staged_directory
from qiskit_qff.errors import ConfigError, DataError


def raising(error: BaseException):
    def app(**_: object) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("a.extxyz, frame 3: bad. Do this."), 2, "qff: error: a.extxyz, frame 3: bad. Do this.\n"),
        (KeyboardInterrupt(), 130, "qff: interrupted\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "qff: error: /x: Permission denied. Check"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "Free some space"),
    ],
)
def test_errors_are_one_line_and_a_code(monkeypatch, capsys, error, code, words) -> None:
    monkeypatch.setattr(main, "app", raising(error))
    assert main.run([]) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_reader_that_has_gone_is_no_error(monkeypatch, capsys) -> None:
    monkeypatch.setattr(main, "app", raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert main.run([]) == 1
    monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback(monkeypatch) -> None:
    monkeypatch.setattr(main, "app", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main.run([])
    monkeypatch.setattr(main, "app", raising(OSError("no file named")))
    with pytest.raises(OSError, match="no file named"):
        main.run([])


def test_help_and_version(capsys) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("qff ")
    assert main.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in main.VERBS)


def test_help_is_light() -> None:
    code = (
        "import sys; from qiskit_qff.cli.main import run; run(['--help']);"
        "heavy = {'qiskit', 'numba', 'pymatgen', 'matplotlib', 'ase', 'scipy'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_json_goes_last_and_alone(capsys) -> None:
    output = Output(as_json=True)
    output.say("readable")
    output.table("numbers", ("name", "value"), [("a", 1.23456), ("b", None)])
    numbers = (np.float64(1.5), np.bool_(True), -np.inf)
    output.finish({"array": np.arange(2), "nan": float("nan"), "path": Path("a/b"), 3: numbers})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"array": [0, 1], "nan": None, "path": "a/b", "3": [1.5, True, None]}
    assert captured.out.count("\n") == 1
    assert "readable" in captured.err
    assert "1.235" in captured.err


def write_model(target: Path, *, text: str, fail: object = None) -> None:
    with staged_directory(target) as staging:
        (staging / "model.json").write_text(text)
        if fail is not None:
            raise fail


def test_old_files_stay_until_the_new_ones_are_complete(tmp_path) -> None:
    (tmp_path / "model.json").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        write_model(tmp_path, text="new", fail=KeyboardInterrupt)
    assert (tmp_path / "model.json").read_text() == "old"
    write_model(tmp_path, text="new")
    assert (tmp_path / "model.json").read_text() == "new"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_strangers_are_not_overwritten(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"thesis\.tex.*--force"):
        check_output_directory(tmp_path, owned={"model.json"}, force=False)
    check_output_directory(tmp_path, owned={"model.json"}, force=True)
    check_output_directory(tmp_path, owned={"thesis.tex"}, force=False)
    with pytest.raises(ConfigError, match="is a file"):
        check_output_directory(tmp_path / "thesis.tex", owned=(), force=True)
