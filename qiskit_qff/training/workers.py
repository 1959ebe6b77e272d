"""Sums over frames on several processes, of this machine or of many: each takes a part, the parts are merged in order.

Everything training needs of the data is a sum over frames, so a part may be summed anywhere. Parts and their order
depend on the number of workers alone, never on who is done first: a run can be repeated to the last bit. Against
one process the sums differ by rounding, 1e-15 of their size.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from qiskit_qff.errors import BackendError, ConfigError, MissingDependencyError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.design import Progress


class Sums(Protocol):
    """Sums over some frames."""

    def merge(self, other: Self) -> None:
        """Add the sums over other frames."""


S = TypeVar("S", bound=Sums)


T_co = TypeVar("T_co", bound=Sums, covariant=True)


class Work(Protocol[T_co]):
    """Sums over some frames; it and what it returns can travel between processes."""

    def __call__(self, frames: Sequence[Frame], progress: Callable[[int], None] | None = None) -> T_co:
        """Sum.

        Args:
            frames: Some frames.
            progress: Called with the number of frames done.
        """


@dataclass(frozen=True)
class Workers:
    """Who sums."""

    executor: Executor
    """Runs functions elsewhere: a process pool, Dask's ``client.get_executor()``, or any other."""
    count: int
    """How many parts the frames are divided into: the number of processes behind the executor."""

    def __post_init__(self) -> None:
        """Check the number of parts.

        Raises:
            ConfigError: If it is not positive.
        """
        if self.count < 1:
            raise ConfigError(f"at least one worker is needed; {self.count} were given.")


def sum_frames(
    work: Work[S],
    frames: Sequence[Frame],
    *,
    stage: str,
    progress: Progress,
    workers: Workers,
) -> S:
    """Sum over frames on several processes.

    Args:
        work: Sums over some frames.
        frames: All frames, at least one.
        stage: Name for the progress.
        progress: Called as parts are done.
        workers: Who sums.
    """
    count = min(workers.count, len(frames))
    bounds = [k * len(frames) // count for k in range(count + 1)]
    parts = [list(frames[low:high]) for low, high in itertools.pairwise(bounds)]
    futures = [workers.executor.submit(work, part) for part in parts]
    progress(stage, 0, len(frames))
    total = futures.pop(0).result()
    for k, bound in enumerate(bounds[1:]):
        progress(stage, bound, len(frames))
        if k < len(parts) - 1:
            total.merge(futures.pop(0).result())
    return total


@contextmanager
def process_workers(count: int) -> Iterator[Workers]:
    """Processes of this machine.

    Args:
        count: How many.

    Raises:
        ConfigError: If the number is not positive.
    """
    if count < 1:
        raise ConfigError(f"at least one process is needed; {count} were given.")
    # Fresh processes: threads of numerical libraries do not survive a fork.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as executor:
        with _threads_shared(count):
            for future in [executor.submit(os.getpid) for _ in range(count)]:
                future.result()
        yield Workers(executor, count)


@contextmanager
def _threads_shared(count: int) -> Iterator[None]:
    """Let processes that are started meanwhile share the cores: numerical libraries read this when they load."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    share = str(max(1, len(os.sched_getaffinity(0)) // count))
    os.environ.update({name: value or share for name, value in before.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


@contextmanager
def dask_workers(address: str, *, timeout: float = 10.0) -> Iterator[Workers]:
    """Workers of a Dask cluster; they need the same version of this package.

    Args:
        address: Of its scheduler, such as ``tcp://node1:8786``.
        timeout: How long to wait for an answer, in s.

    Raises:
        MissingDependencyError: If Dask is not installed.
        BackendError: If no scheduler answers, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError("a Dask cluster needs Dask: pip install 'qiskit_qff[dask]'") from error
    connect: Any = Client
    try:
        client = connect(address, timeout=timeout)
    except (OSError, TimeoutError, ValueError) as error:
        raise BackendError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`."
        ) from error
    with client:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise BackendError(
                f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`."
            )
        yield Workers(client.get_executor(pure=False), count)
