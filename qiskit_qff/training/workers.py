"""Sums over frames on threads, or processes of this machine or of many: each takes a part, parts are merged in order.

Everything training needs of the data is a sum over frames, so a part may be summed anywhere. Parts and their order
depend on the number of workers alone, never on who is done first: a run can be repeated to the last bit. Against
one process the sums differ by rounding, 1e-15 of their size.

Threads start at once and share what they read, so they are what ``qff train`` uses by itself: kernels and products of
matrices let other threads run. Each holds sums of its own, so there are fewer of them where sums are large.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from threadpoolctl import threadpool_limits

from qiskit_qff.cores import n_cores, thread_pool
from qiskit_qff.errors import BackendError, ConfigError, MissingDependencyError
from qiskit_qff.structures.frame import Frame
from qiskit_qff.training.design import Progress

SUMS_LIMIT = 256 * 2**20
"""Bytes that the sums of all threads may take together, unless those of one take more."""


class Sums(Protocol):
    """Sums over some frames."""

    def merge(self, other: Self) -> None:
        """Add the sums over other frames."""


S = TypeVar("S", bound=Sums)


T_co = TypeVar("T_co", bound=Sums, covariant=True)


class Work(Protocol[T_co]):
    """Sums over some frames; it and what it returns can travel between processes."""

    @property
    def n_bytes(self) -> int:
        """Memory that its sums take."""

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
    """How many parts the frames are divided into: the number of processes or threads behind the executor."""
    in_process: bool = False
    """Whether they are threads of this process."""

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
    workers: Workers | None = None,
) -> S:
    """Sum over frames.

    Args:
        work: Sums over some frames.
        frames: All frames, at least one.
        stage: Name for the progress.
        progress: Called as frames or parts are done.
        workers: Who sums; the calling thread by default.
    """
    count = min(workers.count, len(frames)) if workers is not None else 1
    if workers is not None and workers.in_process:
        count = min(count, max(1, SUMS_LIMIT // work.n_bytes))
    if workers is None or (count == 1 and workers.in_process):
        total = work(frames, lambda k: progress(stage, k, len(frames)))
        progress(stage, len(frames), len(frames))
        return total
    bounds = [k * len(frames) // count for k in range(count + 1)]
    parts = [list(frames[low:high]) for low, high in itertools.pairwise(bounds)]
    if workers.in_process:
        return _sum_on_threads(work, parts, lambda done: progress(stage, done, len(frames)), workers.executor)
    futures = [workers.executor.submit(work, part) for part in parts]
    progress(stage, 0, len(frames))
    return _merged(futures, lambda k: progress(stage, bounds[k], len(frames)))


def _merged(futures: list[Future[S]], progress: Callable[[int], None]) -> S:
    """Merge parts in order, and let go of each; ``progress`` is told how many are there."""
    count, total = len(futures), futures.pop(0).result()
    for k in range(1, count + 1):
        progress(k)
        if k < count:
            total.merge(futures.pop(0).result())
    return total


def _sum_on_threads(work: Work[S], parts: list[list[Frame]], progress: Callable[[int], None], executor: Executor) -> S:
    """Sum parts at the same time, counting single frames; an error or interruption ends all of them."""
    lock, stopped, done = threading.Lock(), threading.Event(), itertools.count()

    def tell(_: int) -> None:
        if stopped.is_set():
            raise InterruptedError
        with lock:
            progress(next(done))

    # PERF: one thread of the numerical libraries for each of ours; more get in each other's way.
    with threadpool_limits(1, "blas"):
        futures = [executor.submit(work, part, tell) for part in parts]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
    error = next(filter(None, (future.exception() for future in finished)), None)
    if error is not None:
        raise error
    total = _merged(futures, lambda _: None)
    progress(sum(map(len, parts)))
    return total


@contextmanager
def thread_workers(count: int | None = None) -> Iterator[Workers]:
    """Threads of this process.

    Args:
        count: How many; by default what ``OMP_NUM_THREADS`` says, else as many as the process may use cores.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    count = count or (int(asked) if asked.isdecimal() and int(asked) else n_cores())
    with thread_pool(count) as executor:
        yield Workers(executor, count, in_process=True)


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
    share = str(max(1, n_cores() // count))
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
