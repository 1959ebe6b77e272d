"""Progress: rate, time left and memory; a bar on a terminal, a line now and then elsewhere, never on stdout."""

import os
import pty
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

from qiskit_qff.cli.output import Output
from qiskit_qff.cli.progress import Pace, duration, progress_on_stderr, resident_bytes

MIB = 2**20


class Clock:
    """Time that only moves when told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def noted(clock: Clock, pace: Pace, *reports) -> Pace:
    """Reports ten seconds apart."""
    for report in reports:
        clock.time += 10.0
        pace.note(*report)
    return pace


def test_rate_and_time_left() -> None:
    clock = Clock()
    pace = noted(clock, Pace("training", clock), ("statistics", 0, 600, ""), ("statistics", 100, 600, ""))
    assert pace.rate == pytest.approx(10.0)
    assert pace.seconds_left == pytest.approx(50.0)
    clock.time += 20.0  # no report for a while: the time left still goes down
    assert pace.seconds_left == pytest.approx(30.0)
    assert pace.name == "training: statistics"
    assert pace.words().startswith("17% (100 of 600), 10/s, 30 s left, ")
    assert pace.words().endswith(" MiB")


def test_resumed_work_is_not_taken_for_fast_work() -> None:
    clock = Clock()
    pace = noted(clock, Pace("molecular dynamics", clock), ("", 9000, 10000, "300 K"), ("", 9100, 10000, "301 K"))
    assert pace.rate == pytest.approx(10.0)
    assert pace.seconds_left == pytest.approx(90.0)
    assert pace.words().endswith("MiB, 301 K")


def test_every_stage_has_its_own_clock() -> None:
    clock = Clock()
    pace = noted(clock, Pace("training", clock), ("a", 0, 10, ""), ("a", 10, 10, ""), ("b", 0, 4, ""))
    assert pace.rate is None
    assert pace.seconds_left is None
    assert noted(clock, pace, ("b", 2, 4, "")).rate == pytest.approx(0.2)
    assert "5 s each" in pace.words()
    assert noted(clock, pace, ("b", 0, 4, "")).rate is None  # the same stage once more, as of a second restart


def test_fractions_have_no_rate_and_nothing_in_all_is_no_error() -> None:
    clock = Clock()
    pace = noted(clock, Pace("reading", clock), ("", 0.0, 1.0, ""), ("", 0.5, 1.0, ""))
    assert "/s" not in pace.words()
    assert pace.words().startswith("50%, 10 s left, ")
    assert noted(clock, Pace("nothing", clock), ("", 0, 0, ""), ("", 0, 0, "")).fraction == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3725, "1 h 2 min"), (3 * 86400, "3 d 0 h")],
)
def test_duration(seconds, words) -> None:
    assert duration(seconds) == words


def test_memory_is_what_the_process_holds() -> None:
    grown = []
    for _ in range(5):  # the system may take other pages away meanwhile
        before = resident_bytes()
        block = np.ones(64 * MIB // 8)
        grown.append(resident_bytes() - before)
        assert block.all()
        del block
    assert any(60 * MIB < more < 80 * MIB for more in grown), grown


def test_quick_work_says_nothing_where_there_is_no_terminal(capsys) -> None:
    with Output().progress("working") as advance:
        for k in range(100):
            advance("stage", k, 100)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_long_work_says_a_line_now_and_then(capsys) -> None:
    with progress_on_stderr("working", every=0.0) as advance:
        advance("stage", 0, 3)
        advance("stage", 1, 3, detail="warm")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert re.fullmatch(r"working: stage: 0% \(0 of 3\), \d+ MiB", first)
    assert re.fullmatch(r"working: stage: 33% \(1 of 3\), \S+/s, 0 s left, \d+ MiB, warm", second)


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


def on_a_terminal(script: str, *, both: bool) -> tuple[str, str]:
    """Run a script with stderr, or both streams, on a pseudo-terminal; gives stdout's pipe and the terminal."""
    ours, theirs = pty.openpty()
    shown = bytearray()

    def listen() -> None:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                return
            shown.extend(part)

    listener = threading.Thread(target=listen)
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=theirs if both else subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        listener.start()
        written = b"" if process.stdout is None else process.stdout.read()
        assert process.wait() == 0
    listener.join()
    os.close(ours)
    return written.decode(), shown.decode()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_gets_a_bar_and_stdout_stays_clean(as_json) -> None:
    written, shown = on_a_terminal(WORK.format(as_json=as_json), both=False)
    assert written == ('{"a": 1}\n' if as_json else "a result\n")
    assert re.search(r"working: stage .*?\(\d of 20\), \S+/s, \d+ s left, \d+ MiB", shown)
    assert "a note" in shown
    assert ("a result" in shown) == as_json
    assert shown.rstrip().endswith("\x1b[2K") or shown.count("\x1b[2K") > 1  # the bar is wiped off


def test_results_stay_whole_where_both_streams_are_one_terminal() -> None:
    _, shown = on_a_terminal(WORK.format(as_json=False), both=True)
    assert "a result\r\n" in shown
    assert "MiB" in shown
