"""Disks that are full, files that may not grow, directories that can't be written to."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.kills import Reference, fresh, resume_problem
from benchmarks.faults.suite.outcomes import TRACEBACK, Outcome, refusal_problem
from benchmarks.faults.suite.scenarios import Scenario, damaged_files

PAGE = 4096
COMPILED = {".nbi", ".nbc"}
"""Endings of numba's cache, which is no result: a damaged file there is compiled anew."""


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[bool]:
    """A file system in memory; says whether mounting is allowed here."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "qff-faults", str(place)]
    allowed = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def remount(place: Path, *options: str) -> None:
    """Change the options of a mounted file system."""
    subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(place)], check=True)


def full_disk(
    nursery: Nursery,
    work: Path,
    scenario: Scenario,
    whole: Reference,
    *,
    count: int,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> Outcome:
    """Disks of random sizes, too small; then they grow, and the command is resumed."""
    outcome = Outcome("full disk", scenario.name)
    inputs = work / "inputs"
    taken = sum(_pages(path.stat().st_size) for path in inputs.rglob("*") if path.is_file())
    needed = sum(map(_pages, whole.sizes)) - taken + 24 * PAGE
    for index in range(count):
        size = taken + _pages(int((index + rng.random()) / count * needed)) + 16 * PAGE
        with mounted(work / "bench", f"size={size}") as allowed:
            if not allowed:
                outcome.remark = "not tried: only root may mount"
                return outcome
            directory = fresh(work)
            ended = nursery.run(list(scenario.command), directory, place=work)
            problem = None if ended.code == 0 else refusal_problem(ended.code, ended.stderr)
            if problem is None and ended.code and "space" not in ended.stderr:
                problem = f"does not speak of space: {ended.stderr[-300:]!r}"
            if problem is None and (damaged := damaged_files(directory)):
                problem = f"damaged: {'; '.join(damaged)}"
            if problem is None:
                remount(work / "bench", "size=100%")
                problem = resume_problem(nursery, directory, scenario, whole, place=work)
        outcome.add(problem and f"{size} bytes: {problem}")
        say(f"{scenario.name}: disk of {size} bytes, exit code {ended.code}: {problem or 'survived'}")
    return outcome


def file_size_limit(
    nursery: Nursery,
    work: Path,
    scenario: Scenario,
    whole: Reference,
    *,
    count: int,
    rng: np.random.Generator,
    say: Callable[[str], None],
) -> Outcome:
    """No file may grow beyond a random size (RLIMIT_FSIZE), which also cuts a write in two; needs no privileges."""
    outcome = Outcome("file size limit", scenario.name)
    largest = max(whole.sizes)
    for index in range(count):
        directory = fresh(work)
        # What is printed goes to a file here, which must hold a line of error.
        limit = int(1024 * (largest / 1024) ** ((index + rng.random()) / count))
        ended = nursery.run(list(scenario.command), directory, largest_file=limit)
        problem = None if ended.code == 0 else refusal_problem(ended.code, ended.stderr)
        if problem is None and (damaged := damaged_files(directory)):
            problem = f"damaged: {'; '.join(damaged)}"
        problem = problem or resume_problem(nursery, directory, scenario, whole)
        outcome.add(problem and f"{limit} bytes: {problem}")
        say(f"{scenario.name}: files of {limit} bytes, exit code {ended.code}: {problem or 'survived'}")
    return outcome


def read_only(nursery: Nursery, work: Path, scenario: Scenario, whole: Reference) -> Outcome:
    """The directory may not be written to, or the file system is read-only."""
    outcome = Outcome("read-only directory", scenario.name)
    directory = fresh(work)
    for path in [work, directory.parent, directory, *directory.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    prints = work / "prints"
    before = sorted(directory.rglob("*"))
    work.chmod(0o755)
    prints.mkdir(exist_ok=True)
    ended = nursery.run(list(scenario.command), directory, place=prints, unprivileged=True)
    outcome.add(_refused(ended.code, ended.stderr) or _changed(before, directory))
    for path in [directory.parent, directory, *(path for path in directory.rglob("*") if path.is_dir())]:
        path.chmod(0o755)
    with mounted(work / "bench", "size=64m") as allowed:
        if allowed:
            directory = fresh(work)
            remount(work / "bench", "ro")
            ended = nursery.run(list(scenario.command), directory, place=prints)
            problem = _refused(ended.code, ended.stderr)
            remount(work / "bench", "rw")
            outcome.add(problem or resume_problem(nursery, directory, scenario, whole, place=prints))
        else:
            outcome.remark = "no read-only file system: only root may mount"
    return outcome


def _refused(code: int, stderr: str) -> str | None:
    problem = refusal_problem(code, stderr)
    if problem is None and not any(word in stderr for word in ("permission", "Permission", "read-only", "Read-only")):
        return f"does not say why: {stderr[-300:]!r}"
    return problem


def _changed(before: list[Path], directory: Path) -> str | None:
    after = sorted(directory.rglob("*"))
    return None if after == before else f"files appeared: {set(after) - set(before)}"


def two_at_once(nursery: Nursery, work: Path, scenario: Scenario, whole: Reference) -> Outcome:
    """The same command twice in one directory: one wins, the other is refused, or finds everything done."""
    outcome = Outcome("two processes in one directory", scenario.name)
    directory = fresh(work)
    first = nursery.start(list(scenario.command), directory, place=_place(work, "first"))
    second = nursery.start(list(scenario.command), directory, place=_place(work, "second"))
    ends = [
        nursery.end(pid, directory, place=_place(work, name)) for pid, name in ((first, "first"), (second, "second"))
    ]
    problem = None
    if not any(ended.code == 0 for ended in ends):
        problem = f"neither succeeded: {[ended.stderr[-200:] for ended in ends]}"
    for ended in ends:
        problem = problem or (refusal_problem(ended.code, ended.stderr) if ended.code else None)
        if TRACEBACK in ended.stderr:
            problem = f"traceback: {ended.stderr[-300:]}"
    outcome.remark = f"exit codes {ends[0].code} and {ends[1].code}"
    outcome.add(problem or resume_problem(nursery, directory, scenario, whole, again=False))
    return outcome


def sync_order(scenario: Scenario, whole: Reference) -> Outcome:
    """Power loss: each file is forced to disk before it gets its name, and the name afterwards."""
    outcome = Outcome("power loss (order of fsync and rename)", scenario.name)
    events = whole.syncs
    for index, (kind, *paths) in enumerate(events):
        if kind != "move":
            continue
        source, target = (Path(path) for path in paths)
        if target.suffix in COMPILED:
            continue
        synced = {event[1] for event in events[:index] if event[0] == "sync"}
        later = {event[1] for event in events[index + 1 :] if event[0] == "sync"}
        inside = [file.removeprefix(f"{target}/") for file in whole.files if file.startswith(f"{target}/")]
        content = str(source) in synced and all(str(source / path) in synced for path in inside)
        name = str(target.parent) in later
        outcome.add(None if content and name else f"{target.name}: content {content}, name {name}")
    return outcome


def _place(work: Path, name: str) -> Path:
    (work / name).mkdir(exist_ok=True)
    return work / name


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
