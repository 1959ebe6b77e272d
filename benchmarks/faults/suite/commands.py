"""Commands that run in children of the nursery, and are killed there."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; minus the signal where one ended it."""
    stdout: str
    """What it printed."""
    stderr: str
    """What it said."""
    seconds: float
    """How long it took."""


class Nursery:
    """The process that commands are forked from."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        """Start it.

        Args:
            environment: variables that it has beside those of this process.
        """
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
            | (environment or {}),
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self,
        arguments: list[str],
        directory: Path,
        *,
        kill_after: float | None = None,
        place: Path | None = None,
        **circumstances: Any,
    ) -> Ended:
        """Run one command to its end, or kill its process group.

        Args:
            arguments: after ``qff``.
            directory: to run in.
            kill_after: seconds; None for never.
            place: directory for what it prints; by default the one above.
            circumstances: what the nursery understands: ``die_before``, ``largest_file``, ``unprivileged``, ``trace``,
                ``notes``, ``environment``.
        """
        pid, began = self.start(arguments, directory, place=place, **circumstances), time.monotonic()
        outputs = _outputs(directory, place)
        if kill_after is None:
            return _ended(self._ask(do="wait", pid=pid)["code"], *outputs, began)
        while (code := self._ask(do="state", pid=pid)["code"]) is None:
            left = kill_after - (time.monotonic() - began)
            if left <= 0.0:
                os.killpg(pid, signal.SIGKILL)
                code = self._ask(do="wait", pid=pid)["code"]
                break
            time.sleep(min(left, 0.02))
        return _ended(code, *outputs, began)

    def start(self, arguments: list[str], directory: Path, *, place: Path | None = None, **circumstances: Any) -> int:
        """Start one command; gives its process, which leads its own group."""
        stdout, stderr = _outputs(directory, place)
        request = {"arguments": arguments, "directory": str(directory), "stdout": str(stdout), "stderr": str(stderr)}
        return int(self._ask(do="start", **request, **circumstances)["pid"])

    def end(self, pid: int, directory: Path, *, place: Path | None = None, began: float | None = None) -> Ended:
        """Wait for a command."""
        code = self._ask(do="wait", pid=pid)["code"]
        return _ended(code, *_outputs(directory, place), time.monotonic() if began is None else began)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the nursery has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _outputs(directory: Path, place: Path | None) -> tuple[Path, Path]:
    base = directory.parent if place is None else place
    return base / f"{directory.name}.stdout", base / f"{directory.name}.stderr"


def _ended(code: int, stdout: Path, stderr: Path, began: float) -> Ended:
    seconds = time.monotonic() - began
    out, err = (path.read_text(errors="replace") if path.exists() else "" for path in (stdout, stderr))
    return Ended(code, out, err, seconds)
