"""Progress: one line on a terminal, a line now and then elsewhere, never on stdout."""

import os
import pty
import re
import subprocess
import sys

import pytest

WORK = """
import time
from qiskit_qff.cli.output import Output

output = Output(as_json={as_json})
with output.progress("working") as advance:
    output.say("a result")
    for k in range(8):
        advance("stage", k, 20)
        time.sleep(0.1)
    output.note("a note")
output.finish({{"a": 1}})
"""


def on_a_terminal(script: str) -> tuple[str, str]:
    """Run a script with stderr on a pseudo-terminal, whose buffer holds it all; gives stdout and the terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True, check=True)
    shown = os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    return done.stdout, shown.decode()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_gets_a_line_and_stdout_stays_clean(as_json) -> None:
    written, shown = on_a_terminal(WORK.format(as_json=as_json))
    assert written == ('{"a": 1}\n' if as_json else "a result\n")
    assert re.search(r"\x1b\[Kworking: stage: \d+% \(\d of 20\)\r", shown)
    assert "\x1b[Ka note" in shown
    assert ("a result" in shown) == as_json
    assert shown.endswith("\x1b[K")
