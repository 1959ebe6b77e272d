"""Processor cores of this process, and which thread may use several of them; every layer may use this."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor


def n_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_pool(count: int) -> ThreadPoolExecutor:
    """Threads that share the cores: kernels called by one of them start no more."""
    import numba  # here because `qff --help` reads this file

    return ThreadPoolExecutor(count, initializer=numba.set_num_threads, initargs=(1,))
