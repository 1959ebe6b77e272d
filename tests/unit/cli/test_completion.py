"""Tab completion of verbs and options by typer, and what is said of mistyped ones."""

import os
import subprocess
import sys

import pytest

from qiskit_qff.cli.main import run


@pytest.mark.parametrize(
    ("words", "number", "wanted"),
    [("qff ev", 1, {"evaluate"}), ("qff evaluate m d --strat", 4, {"--strategy"})],
)
def test_a_shell_is_offered(words, number, wanted) -> None:
    environment = os.environ | {"_QFF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    done = subprocess.run(
        [sys.executable, "-m", "qiskit_qff"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian", "data"], "Did you mean 'train'?"),
        (["train", "data", "--optimiser", "adam"], "Did you mean --optimizer?"),
        (["--verison"], "Did you mean --version?"),
    ],
)
def test_did_you_mean(capsys, arguments, words) -> None:
    assert run(arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
