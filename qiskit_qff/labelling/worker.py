"""What runs in a worker process: label frames as they come, and die with whoever sent them.

The worker leads a process group of its own, so that a Ctrl-C in the terminal reaches the parent alone, and so that
the programs it starts can be stopped with it. A thread waits for the parent's end: after a ``kill -9`` of the parent
neither the worker nor the program it runs is left over. What calculators print goes to a log in the worker's
directory.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from qiskit_qff.labelling.labels import Label, LabelError, Labeller, ensure_complete
from qiskit_qff.structures.frame import Frame

LOG = "worker.log"


def work(connection: Connection, labeller: Labeller, directory: Path, threads: int) -> None:
    """Label frames until the connection closes.

    Sends ``("ready",)`` once, then for each frame ``("done", label)`` or ``("failed", kind, message)``.

    Args:
        connection: frames come in, answers go out.
        labeller: the program and its settings.
        directory: this worker's own.
        threads: threads of the program.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    directory.mkdir(parents=True, exist_ok=True)
    _redirect(directory / LOG)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    connection.send(("ready",))
    while True:
        try:
            frame: Frame = connection.recv()
        except EOFError:
            return
        connection.send(answer(labeller, frame, directory))


def answer(labeller: Labeller, frame: Frame, directory: Path) -> tuple[Any, ...]:
    """The label of one frame, or why there is none."""
    began = time.monotonic()
    try:
        label: Label = labeller.label(frame, directory)
        ensure_complete(label, frame.n_atoms)
    except LabelError as failure:
        return ("failed", failure.kind, failure.message)
    return ("done", replace(label, wall_seconds=time.monotonic() - began))


def _die_with(sentinel: int) -> None:
    """Stop this process group when the parent has ended."""
    multiprocessing.connection.wait([sentinel])
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _redirect(path: Path) -> None:
    """Send everything printed, by Python or by a library, to a file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
