"""A handful of the faults of ``benchmarks/faults``: kills, small disks, rivals, malformed files, a planted token."""

import random

import numpy as np
import pytest

from benchmarks.faults.suite.disks import file_size_limit, full_disk, read_only, sync_order, two_at_once
from benchmarks.faults.suite.kills import difference, kill_at_random, reference
from benchmarks.faults.suite.malformed import malformed_inputs
from benchmarks.faults.suite.outcomes import Outcome, table
from benchmarks.faults.suite.readers import READERS, spoil
from benchmarks.faults.suite.scenarios import SCENARIOS
from benchmarks.faults.suite.tokens import planted_token
from qiskit_qff.errors import QFFError

KILLS = {"train": 1, "train --backend aer": 1, "md": 4, "label": 2, "calibrate": 2, "learn": 2}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_commands_survive(nursery, work, survives, scenario) -> None:
    whole = reference(nursery, work, scenario)
    arguments, rng = (nursery, work, scenario, whole), np.random.default_rng(5)
    outcomes = [sync_order(scenario, whole)]
    outcomes.append(kill_at_random(*arguments, count=KILLS[scenario.name], rng=rng, say=print))
    if scenario.name == "md":
        outcomes.append(file_size_limit(*arguments, count=1, rng=rng, say=print))
        outcomes.append(full_disk(*arguments, count=1, rng=rng, say=print))
        outcomes.append(read_only(*arguments))
        outcomes.append(two_at_once(*arguments))
    survives(*outcomes)


@pytest.mark.slow
def test_malformed_input_is_refused(survives) -> None:
    made, _ = malformed_inputs(say=print, spoilt=0)
    survives(made)
    assert made.tried >= 60


@pytest.mark.slow
def test_no_token_is_shown(survives) -> None:
    slow = frozenset({"baseline", "label", "lammps", "select", "learn"})
    survives(planted_token(say=print, skip=slow))


def test_the_table_counts_what_was_not_survived() -> None:
    outcome = Outcome("kill", "md")
    outcome.add(None)
    outcome.add("lost")
    assert (outcome.tried, outcome.survived) == (2, 1)
    assert "kill, md: lost" in table([outcome])


def test_differences_are_found() -> None:
    assert difference({"a": [1.0, {"b": 2}]}, {"a": [1.0, {"b": 2}]}) is None
    assert "a[1].b" in difference({"a": [1.0, {"b": 2}]}, {"a": [1.0, {"b": 3}]})
    assert difference({"a": 1}, {"a": 1, "b": 2}) is not None
    assert difference([1], [1, 2]) is not None


@pytest.fixture(scope="session")
def files(trained, tmp_path_factory):
    """A good file of each kind that commands leave behind."""
    from qiskit_qff.cli.main import run

    directory = tmp_path_factory.mktemp("files")
    md = ["--steps", "4", "--interval", "2", "--checkpoint", "2", "--out", str(directory)]
    assert run(["md", str(trained / "run"), str(trained / "data.extxyz"), *md]) == 0
    (directory / "model.json").write_bytes((trained / "run" / "model.json").read_bytes())
    for name in ("config.yaml", "data.extxyz"):
        (directory / name).write_bytes((trained / name).read_bytes())
    return directory


@pytest.mark.parametrize("kind", ["model", "configuration", "structures", "trajectory", "log", "checkpoint"])
def test_readers_of_spoilt_files_raise_nothing_else(files, tmp_path, kind) -> None:
    name, reader = READERS[kind]
    rng, refused = random.Random(7), []
    for _ in range(60):
        (tmp_path / name).write_bytes(spoil((files / name).read_bytes(), name, rng))
        try:
            reader(tmp_path / name)
        except QFFError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(len(words) > 20 for words in refused)
