"""Processor cores of this process, and which thread may use several of them; every layer may use this."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_BUSY = threading.Lock()
"""Held while a kernel runs in its parallel form."""


def n_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_free_threads(parallel: Callable[..., T], serial: Callable[..., T], *arguments: object) -> T:
    """Run the parallel form of a kernel if no other thread runs one, else the serial form.

    Two at the same time abort the process where numba has only its portable threading layer, ``workqueue``.

    Args:
        parallel: Compiled with ``parallel=True``.
        serial: The same computation on the calling thread.
    """
    # PERF: also where numba has one thread: its parallel form knows that arrays do not overlap, and is faster.
    if _BUSY.acquire(blocking=False):
        try:
            return parallel(*arguments)
        finally:
            _BUSY.release()
    return serial(*arguments)


def thread_pool(count: int) -> ThreadPoolExecutor:
    """Threads that share the cores: kernels called by one of them start no more."""
    import numba  # here because `qff --help` reads this file

    return ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,))
