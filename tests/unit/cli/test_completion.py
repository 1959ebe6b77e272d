"""Tab completion through the shell's own door, and the words it offers against the modules that check them."""

import os
import subprocess
import sys
from typing import get_args

import pytest

from qiskit_qff.cli.completion import FIXED, names_of, options_of
from qiskit_qff.cli.main import VERBS, run
from qiskit_qff.evaluators.mitigation import PRESETS
from qiskit_qff.evaluators.strategies.designs import DesignName
from qiskit_qff.model.config import DataConfig, OptimizerName
from qiskit_qff.model.measured import Strategy
from qiskit_qff.simulation.extrapolation import Action
from qiskit_qff.simulation.settings import Barostat, Ensemble, Thermostat

CHECKED = {
    "--barostat": get_args(Barostat),
    "--design": ("auto", *get_args(DesignName)),
    "--ensemble": get_args(Ensemble),
    "--mitigation": tuple(PRESETS),
    "--on-extrapolation": get_args(Action),
    "--optimizer": get_args(OptimizerName),
    "--split": get_args(DataConfig.model_fields["split"].annotation),
    "--strategy": get_args(Strategy),
    "--thermostat": get_args(Thermostat),
}


@pytest.mark.parametrize("option", CHECKED)
def test_words_are_those_that_are_accepted(option) -> None:
    assert set(FIXED[option]) == set(CHECKED[option])


def test_every_option_of_the_table_exists_and_is_completed() -> None:
    options = [option for function in VERBS.values() for option in options_of(function)]
    by_name = {name: option for option in options for name in names_of(option)}
    for name, words in FIXED.items():
        assert by_name[name].autocompletion is not None
        assert by_name[name].autocompletion(words[0][:2])[0].startswith(words[0][:2])
    assert set(FIXED) <= set(by_name)


def complete(words: str, number: int) -> list[str]:
    """What bash is offered for the word of a number."""
    environment = os.environ | {"_QFF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(number)}
    done = subprocess.run(
        [sys.executable, "-m", "qiskit_qff"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "number", "wanted"),
    [
        ("qff ev", 1, {"evaluate"}),
        ("qff md model.json a.xyz --ensemble n", 5, {"nve", "nvt", "npt"}),
        ("qff evaluate m d --backend fake_torin", 5, {"fake_torino"}),
        ("qff evaluate m d --strat", 4, {"--strategy"}),
    ],
)
def test_a_shell_is_offered(words, number, wanted) -> None:
    assert set(complete(words, number)) == wanted


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
