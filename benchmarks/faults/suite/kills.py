"""SIGKILL to the process group at random moments, and at random operations on files; then the command is resumed."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.suite.commands import Ended, Nursery
from benchmarks.faults.suite.inputs import CONFIG, MODEL, write_inputs
from benchmarks.faults.suite.outcomes import TRACEBACK, Outcome
from benchmarks.faults.suite.scenarios import Scenario, damaged_files


@dataclass(frozen=True)
class Reference:
    """A run that nothing happened to."""

    results: dict[str, Any]
    """What every resumed run must come to."""
    seconds: float
    """How long it took."""
    operations: int
    """Files it opened to write, renamed or removed."""
    sizes: list[int]
    """Sizes of all files at the end, in bytes."""
    syncs: list[list[Any]]
    """What was forced to disk and what was moved, in order."""
    files: set[str]
    """All files at the end."""


@contextmanager
def workshop(nursery: Nursery) -> Iterator[Path]:
    """A directory with ``inputs`` in it, a trained model among them."""
    with tempfile.TemporaryDirectory(prefix="qff-faults-") as name:
        inputs = Path(name) / "inputs"
        inputs.mkdir()
        write_inputs(inputs)
        _succeed(nursery.run(["train", CONFIG, "--out", MODEL], inputs), "training of the model")
        yield Path(name)


def reference(nursery: Nursery, work: Path, scenario: Scenario) -> Reference:
    """Run a command undisturbed."""
    directory, notes = fresh(work), work / "notes.json"
    ended = nursery.run(list(scenario.command), directory, notes=str(notes), trace=True)
    _succeed(ended, scenario.name)
    heard = json.loads(notes.read_text())
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    inside = {str(path) for path in directory.rglob("*") if path.is_file()}
    return Reference(scenario.results(directory), ended.seconds, heard["operations"], sizes, heard["syncs"], inside)


def kill_at_random(
    nursery: Nursery,
    work: Path,
    scenario: Scenario,
    whole: Reference,
    *,
    count: int,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> Outcome:
    """Kill, look, resume, compare; every second kill comes at a random moment, the others at an operation on a file."""
    outcome = Outcome("SIGKILL", scenario.name)
    struck = 0
    for index in range(count):
        directory = fresh(work)
        # Moments are spread over the run, so that a few of them are not all alike.
        share = (index + rng.random()) / count
        if index % 2:
            when: dict[str, Any] = {"die_before": 1 + int(share * whole.operations)}
        else:
            when = {"kill_after": share * whole.seconds}
        ended = nursery.run(list(scenario.command), directory, **when)
        struck += ended.code == -9
        problem = _problem_after(nursery, directory, scenario, whole, ended)
        outcome.add(problem and f"{when}: {problem}")
        say(f"{scenario.name}: kill {index + 1}/{count} {when}: {problem or 'survived'}")
    outcome.remark = f"{struck} before the end"
    return outcome


def _problem_after(nursery: Nursery, directory: Path, scenario: Scenario, whole: Reference, ended: Ended) -> str | None:
    """What a kill has spoilt, if anything."""
    if TRACEBACK in ended.stderr:
        return f"traceback before the kill: {ended.stderr[-500:]}"
    if damaged := damaged_files(directory):
        return f"damaged: {'; '.join(damaged)}"
    return resume_problem(nursery, directory, scenario, whole)


def resume_problem(
    nursery: Nursery,
    directory: Path,
    scenario: Scenario,
    whole: Reference,
    *,
    again: bool = True,
    place: Path | None = None,
) -> str | None:
    """What is wrong with the results of a resumed run, if anything; ``again=False`` takes them as they are."""
    done = scenario.done_so_far(directory)
    command = scenario.resume(directory) if again else ()
    if command:
        ended = nursery.run(list(command), directory, place=place)
        if ended.code != 0:
            return f"resuming ended with {ended.code}: {ended.stderr[-500:]}"
        kept = scenario.kept(json.loads(ended.stdout.splitlines()[-1]))
        if kept is not None and kept != done:
            return f"{done} units were on disk, {kept} were kept"
    if damaged := damaged_files(directory):
        return f"damaged after resuming: {'; '.join(damaged)}"
    left = [str(path.relative_to(directory)) for path in directory.rglob("*.partial")]
    if left and command:  # else nothing has been written since, and the next write removes them
        return f"left behind: {', '.join(left)}"
    return difference(scenario.results(directory), whole.results)


def difference(found: Any, expected: Any, place: str = "results") -> str | None:
    """The first place where two results differ by more than the last digits of a sum."""
    if isinstance(expected, dict) and isinstance(found, dict) and found.keys() == expected.keys():
        places = ((found[key], expected[key], f"{place}.{key}") for key in expected)
        return next((text for entry in places if (text := difference(*entry))), None)
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        places = ((*pair, f"{place}[{n}]") for n, pair in enumerate(zip(found, expected, strict=True)))
        return next((text for entry in places if (text := difference(*entry))), None)
    return None if found == expected else f"{place}: {str(found)[:80]!r} instead of {str(expected)[:80]!r}"


def fresh(work: Path) -> Path:
    """A new copy of the inputs, always in the same place: configurations hold absolute paths."""
    directory = work / "bench" / "run"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(work / "inputs", directory)
    return directory


def _succeed(ended: Ended, what: str) -> None:
    if ended.code != 0:
        raise RuntimeError(f"{what} failed without any fault: {ended.stderr}")
