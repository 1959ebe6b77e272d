"""A process that has imported everything, and forks a child for every command that is to come to harm.

A kill of a fresh ``qff`` process would mostly hit the imports. A child of the nursery begins with the work itself. It
leads a process group of its own, so that a kill takes everything that it has started. On request it kills itself before
its n-th operation on files below a directory, may write no file beyond a size, has no privileges, or writes down in
which order it forces files to disk and renames them.

Talks JSON, a line at a time: a request on stdin, the answer on stdout.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

LINUX_CAPABILITY_VERSION_3 = 0x20080522
PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2, 3)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER: with them, permissions of files mean nothing."""
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.chmod"}
_MODULES = (
    "qiskit_qff.cli.main",
    "qiskit_qff.cli.training_run",
    "qiskit_qff.simulation.analysis",
    "qiskit_qff.model.remote.jobs",
    "qiskit_qff.model.calibration",
    "qiskit_qff.evaluators.backends",
    "qiskit_qff.simulation.dynamics",
    "qiskit_qff.report.dynamics",
    "qiskit_qff.labelling.label",
    "qiskit_ibm_runtime.fake_provider",
    "qiskit_ibm_runtime.executor_estimator",
    "qiskit_aer",
    "ase.io.extxyz",
    "ase.calculators.emt",
    "pymatgen.core",
    "matplotlib.backends.backend_agg",
)


def main() -> None:
    """Serve requests until stdin ends."""
    from importlib import import_module

    sys.path.pop(0)  # the directory of this script: its modules are not to be found by short names
    for name in _MODULES:
        with suppress(ImportError):
            import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            _answer(answers, {"pid": _start(request)})
        else:
            _answer(answers, _state(request["pid"], wait=request["do"] == "wait"))


def _answer(stream: Any, content: dict[str, Any]) -> None:
    stream.write(json.dumps(content) + "\n")
    stream.flush()


def _state(pid: int, *, wait: bool) -> dict[str, Any]:
    """Exit code of a child, minus the signal where one ended it; None while it runs."""
    found, status = os.waitpid(pid, 0 if wait else os.WNOHANG)
    return {"code": os.waitstatus_to_exitcode(status) if found else None}


def _start(request: dict[str, Any]) -> int:
    """Fork a child that runs one command."""
    pid = os.fork()
    if pid:
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        os.setpgid(0, 0)
        code = _run(request)
    except BaseException:  # noqa: BLE001 (a child must not return into the server)
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    """In the child: become what was asked for, and run the command."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.update(request.get("environment", {}))
    os.chdir(request["directory"])
    if request.get("unprivileged") and os.geteuid() == 0:
        _drop_overrides()
    if "largest_file" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], request["largest_file"]))
    watcher = _Watcher(request["directory"], die_before=request.get("die_before"))
    if request.get("trace"):
        watcher.follow_syncs()
    sys.addaudithook(watcher.hear)
    from qiskit_qff.cli.main import run

    try:
        return run(request["arguments"])
    finally:
        watcher.armed = False
        if "notes" in request:
            Path(request["notes"]).write_text(json.dumps({"operations": watcher.count, "syncs": watcher.syncs}))


def _drop_overrides() -> None:
    """Make permissions of files hold for root, in this process and those that it starts (see capabilities(7)).

    Becoming another user would do that too, but that user may not be able to read the package itself.

    Raises:
        OSError: if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0-31, then those of 32-63
    for capability in OVERRIDES:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if libc.capget(header, sets) == 0:
        for index in range(3):
            sets[index] &= ~sum(1 << capability for capability in OVERRIDES)
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities can't be dropped")


class _Watcher:
    """Hears of every operation on files below a directory."""

    def __init__(self, directory: str, *, die_before: int | None) -> None:
        self._root = os.path.realpath(directory) + os.sep
        self._die_before = die_before
        self._owner = os.getpid()
        self.armed = True
        self.count = 0
        self.syncs: list[list[Any]] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python before the operation."""
        writes = event in _CHANGES or (event == "open" and _opens_to_write(arguments))
        if not writes or not self.armed or os.getpid() != self._owner:
            return
        path = arguments[0]
        if not isinstance(path, (str, os.PathLike)) or not os.path.abspath(path).startswith(self._root):  # noqa: PTH100
            return
        self.count += 1
        if self.count == self._die_before:
            os.killpg(0, signal.SIGKILL)

    def follow_syncs(self) -> None:
        """Write down, in order, what is forced to disk and what is renamed."""
        sync, renaming = os.fsync, {name: getattr(os, name) for name in ("replace", "rename", "link")}

        def fsync(descriptor: Any) -> None:
            sync(descriptor)
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            self.syncs.append(["sync", os.path.realpath(f"/proc/self/fd/{number}")])

        def wrapped(name: str) -> Any:
            def move(source: Any, target: Any, **options: Any) -> None:
                before = os.path.realpath(source)
                renaming[name](source, target, **options)
                self.syncs.append(["move", before, os.path.realpath(target)])

            return move

        os.fsync = fsync
        for name in renaming:
            setattr(os, name, wrapped(name))


def _opens_to_write(arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened to be changed."""
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


if __name__ == "__main__":
    main()
