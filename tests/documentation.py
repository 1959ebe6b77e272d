"""Running a tutorial: its blocks in order, as a reader would, with what it says about its output checked.

Blocks of ``sh`` and ``python`` are run, in one directory and one namespace; a block of ``text`` after them is output:
each of its lines, numbers aside, has to be among what was printed. Comments before a block change what is run:

    <!-- short: --steps 1000 => --steps 40 -->    a shorter form of the same command
    <!-- not run: needs an account -->            only looked at: Python is compiled, commands of qff are parsed
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from qiskit_qff.cli.main import app, run

VERBS: dict[str, Any] = typer.main.get_command(app).commands
_BLOCK = re.compile(
    r"^(?P<comments>(?:<!--.*?-->\n)*)```(?P<language>sh|python|text)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SHORT = re.compile(r"<!-- short: (.*?) => (.*?) -->")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass
class Reader:
    """Somebody who follows a tutorial."""

    place: Path
    """Current directory."""
    printed: str = ""
    """What the last command printed."""
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "tutorial"})
    """Names of the Python session."""

    def follow(self, page: Path, *, short: bool = True) -> int:
        """Run every block of a page; gives how many were run."""
        count = 0
        for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            code, comments = block["code"], block["comments"]
            if "<!-- not run:" in comments:
                look_at(block["language"], code)
                continue
            for long, shorter in _SHORT.findall(comments) if short else ():
                assert long in code, f"{page.name}: the block has no {long!r}"
                code = code.replace(long, shorter)
            if block["language"] == "text":
                self.expect(code, page.name)
                continue
            count += 1
            self.printed = ""
            if block["language"] == "python":
                self.python(code, page.name)
            else:
                for command in commands(code):
                    self.shell(command)
        return count

    def expect(self, text: str, where: str) -> None:
        """Compare a block of output with what was printed, numbers aside."""
        if not self.printed:
            return  # a list of files or the like, before any command
        seen = {masked(line) for line in self.printed.splitlines()}
        for line in text.splitlines():
            assert masked(line) in seen, f"{where} promises {line!r}; printed was:\n{self.printed}"

    def python(self, code: str, where: str) -> None:
        """Run Python in the session."""
        with contextlib.chdir(self.place), captured() as output:
            exec(compile(code, where, "exec"), self.names)
        self.printed += output.getvalue()

    def shell(self, command: str) -> None:
        """Run one command line; those of qff and ``hardware`` in this process, because each start takes seconds."""
        if match := re.fullmatch(r"(?:mkdir -p (\S+) && )?cd (\S+)", command):
            self.place /= match[2]
            if match[1]:
                self.place.mkdir(exist_ok=True)
            assert self.place.is_dir(), f"{command}: no such directory"
            return
        if command.startswith("qff "):
            with contextlib.chdir(self.place), captured() as output:
                code = run(words_of(command, self.place)[1:])
            assert code == 0, f"{command}\n{output.getvalue()}"
            self.printed += output.getvalue()
            return
        if match := re.fullmatch(r"python (hardware/.*)", command):
            with contextlib.chdir(self.place), captured() as output, pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words_of(match[1], self.place))
                runpy.run_path(sys.argv[0], run_name="__main__")
            self.printed += output.getvalue()
            return
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.place, env=os.environ | {"PATH": path}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self.printed += done.stdout + done.stderr


def commands(code: str) -> Iterator[str]:
    """Command lines of a block; a here-document belongs to the line that it begins on."""
    lines = iter(code.splitlines())
    for line in lines:
        if match := re.search(r"<<'(\w+)'", line):
            document = [line]
            for more in lines:
                document.append(more)
                if more == match[1]:
                    break
            yield "\n".join(document)
        elif line.strip():
            yield line.strip()


def words_of(command: str, place: Path) -> list[str]:
    """Words of a command line, with * filled in as a shell does."""
    words = []
    for word in shlex.split(command):
        found = sorted(str(path.relative_to(place)) for path in place.glob(word)) if "*" in word else []
        words += found or [word]
    return words


def look_at(language: str, code: str) -> None:
    """What can be said of a block without running it: the Python compiles, verbs and options exist."""
    if language == "python":
        compile(code, "tutorial", "exec")
    for command in commands(code) if language == "sh" else ():
        if command.startswith("qff "):
            verb, options = VERBS[command.split()[1]], re.findall(r"--[\w-]+", command)
            known = {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)}
            assert set(options) <= known, f"{command}: there is no {sorted(set(options) - known)}"


def masked(line: str) -> str:
    """A line of output without its numbers, and with single spaces."""
    return " ".join(_NUMBER.sub("#", line).split())


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Everything that is printed meanwhile, on both streams."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output
