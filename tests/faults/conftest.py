"""The table of faults, collected over the tests of this directory and printed at the end of the run."""

import pytest

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.kills import workshop
from benchmarks.faults.suite.outcomes import table

OUTCOMES = []


@pytest.fixture(scope="session")
def nursery():
    """The process that commands are forked from."""
    with Nursery() as process:
        yield process


@pytest.fixture(scope="session")
def work(nursery):
    """A directory with the inputs of all commands."""
    with workshop(nursery) as directory:
        yield directory


@pytest.fixture
def survives():
    """Note outcomes for the table, and fail where something was not survived."""

    def check(*outcomes) -> None:
        OUTCOMES.extend(outcomes)
        assert not any(outcome.problems for outcome in outcomes), table(outcomes)

    return check


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    if OUTCOMES:
        terminalreporter.section("fault suite, short form")
        terminalreporter.write_line(table(OUTCOMES))
