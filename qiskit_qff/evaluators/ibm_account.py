"""The user's IBM Quantum account, and errors of its client without tokens.

Clients of web services put requests, headers and settings into their errors, and with them now and then the account's
token. Removed are the tokens that are known here, from the environment and from Qiskit's account store, and whatever
is called one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from qiskit.exceptions import QiskitError

from qiskit_qff.errors import BackendError, QFFError

HIDDEN = "[hidden]"
"""What stands in a message where a token was."""

OPEN_PLAN = "open"
"""The free plan: ten minutes in 28 days, no sessions."""

_VARIABLE = re.compile(r"(QISKIT|IBM|IQP|QE_).*(TOKEN|KEY|SECRET|PASSWORD)", re.IGNORECASE)
_SHORTEST = 6
"""Shorter values are words, no tokens: removing them would garble every message."""
_LOOKS_SECRET = (
    # The name stays, the value goes; a scheme such as Bearer belongs to the value.
    re.compile(
        r"(?P<name>\b(?:api[-_ ]?key|[\w-]*token|authorization|password|secret)\b[\"']?\s*[:=]\s*[\"']?)"
        r"(?:(?:bearer|basic|apikey)\s+)?[^\s\"',;&})\]]+",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<name>\b(?:bearer|basic|apikey)\s+)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(?P<name>)\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"),  # JSON web tokens
    re.compile(r"(?P<name>)(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{44}(?![\w-])"),  # IBM Cloud keys
)


def redact(text: str) -> str:
    """The text without tokens."""
    for secret in sorted(set(_known_secrets()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
    for pattern in _LOOKS_SECRET:
        text = pattern.sub(rf"\g<name>{HIDDEN}", text)
    return text


@contextmanager
def client_errors(what: str) -> Iterator[None]:
    """Turn whatever an estimator or the runtime client raises into one error without tokens, also in its traceback.

    They raise all sorts of exceptions, down to those of their HTTP stack; none of them is a bug of ours.
    """
    try:
        yield
    except QFFError:
        raise
    except Exception as error:  # noqa: BLE001 (see above)
        raise BackendError(f"{what}: {redact(str(error)) or type(error).__name__}") from None


def _known_secrets() -> Iterator[str]:
    """Tokens of the environment and of the accounts that Qiskit has saved."""
    values = [value for name, value in os.environ.items() if _VARIABLE.search(name)]
    # A damaged account file is told of where the account is needed.
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, QiskitError):
        from qiskit_ibm_runtime import QiskitRuntimeService

        values += [str(account.get("token", "")) for account in QiskitRuntimeService.saved_accounts().values()]
    yield from (value.strip() for value in values if len(value.strip()) >= _SHORTEST)


def connect(purpose: str) -> Any:
    """``QiskitRuntimeService`` of the account in the environment or in Qiskit's account store."""
    from qiskit_ibm_runtime import QiskitRuntimeService
    from qiskit_ibm_runtime.accounts.exceptions import AccountNotFoundError

    with client_errors(f"{purpose}: IBM Quantum could not be reached"):
        try:
            return QiskitRuntimeService()
        except AccountNotFoundError:
            raise BackendError(
                f"{purpose} needs an IBM Quantum account, and none is saved. Save one once in Python with "
                "QiskitRuntimeService.save_account(token=..., instance=...), or set QISKIT_IBM_TOKEN and "
                "QISKIT_IBM_INSTANCE; or try a simulated device first: --backend fake_kingston."
            ) from None


def plan_of(service: Any, backend: Any) -> str:
    """Plan of the instance that a device belongs to, for example ``open``; empty where the service does not say."""
    with client_errors("IBM Quantum did not tell the plan of the account"):
        instance = getattr(backend, "_instance", None) or service.active_instance()
        found = (one.get("plan") for one in service.instances() if one.get("crn") == instance)
        return str(next(found, "")).lower()


def execution_mode(plan: str, n_jobs: int) -> tuple[str, str]:
    """How independent jobs are sent, ``job`` or ``batch``, and why."""
    if n_jobs == 1:
        return "job", "a single job"
    return ("job", "the open plan") if plan == OPEN_PLAN else ("batch", f"{n_jobs} independent jobs")


@contextmanager
def opened(backend: Any, mode: str) -> Iterator[Any]:
    """A Session or Batch of a device; None for single jobs."""
    if mode == "job":
        yield None
        return
    if mode == "session" and plan_of(backend.service, backend) == OPEN_PLAN:
        raise BackendError("The open plan has no sessions; use --mode job (the default).")
    from qiskit_ibm_runtime import Batch, Session

    with client_errors(f"IBM Quantum opened no {mode}"):
        found = (Batch if mode == "batch" else Session)(backend=backend)
    try:
        yield found
    finally:
        with client_errors(f"The {mode} could not be closed; its jobs go on"):
            found.close()


def check_usage(service: Any, seconds: float) -> None:
    """Refuse jobs that take longer than the account's instance has time left."""
    with client_errors("IBM Quantum did not tell the time that is left"):
        usage = service.usage()
    left = usage.get("usage_remaining_seconds")
    if left is not None and seconds > left:
        raise BackendError(
            f"about {seconds:.0f} s of processor time are needed, but your instance has {left:.0f} s left "
            f"({usage.get('usage_consumed_seconds', 0):.0f} s are used). Take fewer shots or a cheaper mitigation, or "
            "wait until the plan renews its time; nothing was sent."
        )
