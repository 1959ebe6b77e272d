"""The user's IBM Quantum account, with errors that say what to do and never show a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.redaction import client_errors


def connect(purpose: str) -> Any:
    """``QiskitRuntimeService`` of the account in the environment or in Qiskit's account store.

    Args:
        purpose: What needs it, to begin the message with.

    Raises:
        BackendError: If there is no account, it is refused, or the service cannot be reached.
    """
    from qiskit_ibm_runtime import QiskitRuntimeService
    from qiskit_ibm_runtime.accounts.exceptions import AccountNotFoundError

    with client_errors(f"{purpose}: IBM Quantum could not be reached"):
        try:
            return QiskitRuntimeService()
        except AccountNotFoundError:
            raise BackendError(
                f"{purpose} needs an IBM Quantum account, and none is saved. Save one once in Python with "
                "QiskitRuntimeService.save_account(token=..., instance=...), or set QISKIT_IBM_TOKEN and "
                "QISKIT_IBM_INSTANCE; or try a simulated device first: --backend fake_torino."
            ) from None


@contextmanager
def opened_mode(backend: Any, mode: str) -> Iterator[Any]:
    """Session or Batch of a device; None for single jobs.

    Args:
        backend: The device.
        mode: ``session``, ``batch`` or ``job``.

    Raises:
        BackendError: If the service opens none, or does not close it.
    """
    if mode == "job":
        yield None
        return
    import qiskit_ibm_runtime

    with client_errors(f"IBM Quantum opened no {mode}"):
        kind: Any = qiskit_ibm_runtime.Session if mode == "session" else qiskit_ibm_runtime.Batch
        opened = kind(backend=backend)
    try:
        yield opened
    finally:
        with client_errors(f"The {mode} could not be closed; its jobs go on"):
            opened.close()
