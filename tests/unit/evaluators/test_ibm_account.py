"""Tokens never come through, whatever a client puts into its errors."""

import json
import traceback

import numpy as np
import pytest
from circuits import loaded
from qiskit.primitives import BaseEstimatorV2

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators import primitive
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.ibm_account import HIDDEN, redact
from qiskit_qff.evaluators.mitigation import estimator_options
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Request

IN_ENVIRONMENT = "planted/in env+ironment"
SAVED = "planted-in-the-store"
CLOUD_KEY = "aB3_" + "x" * 36 + "9Zq-"


@pytest.fixture(autouse=True)
def planted(monkeypatch, tmp_path):
    """A token in the environment and another in Qiskit's account store."""
    store = tmp_path / "qiskit-ibm.json"
    account = {"channel": "ibm_quantum_platform", "url": "https://quantum.example", "token": SAVED, "instance": "crn:x"}
    store.write_text(json.dumps({"default-ibm-quantum-platform": account}))
    monkeypatch.setattr("qiskit_ibm_runtime.accounts.management._DEFAULT_ACCOUNT_CONFIG_JSON_FILE", str(store))
    monkeypatch.setenv("QISKIT_IBM_TOKEN", IN_ENVIRONMENT)
    monkeypatch.setenv("QISKIT_IBM_URL", "http://127.0.0.1:9")
    return store


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"401 for {IN_ENVIRONMENT}.", IN_ENVIRONMENT),
        ("GET /?k=planted%2Fin%20env%2Bironment HTTP/1.1", "planted%2F"),
        (f"account {SAVED} is refused", SAVED),
        ("headers {'Authorization': 'Bearer abc.def-123', 'X': 1}", "abc.def-123"),
        ("sent Bearer abcdefgh12345", "abcdefgh12345"),
        ('{"apikey": "s3cr3t!", "grant_type": "x"}', "s3cr3t"),
        ("url?access_token=qwerty&b=1", "qwerty"),
        ("api_key=qwerty, retrying", "qwerty"),
        (f"unknown key {CLOUD_KEY} of user", CLOUD_KEY),
        ("jwt eyJhbGciOi.eyJzdWIiOiIx.c2ln end", "eyJhbGciOi"),
    ],
)
def test_what_is_or_looks_like_a_token_is_hidden(text, secret):
    assert secret not in redact(text)
    assert HIDDEN in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Duration of sx on qubits [0] is not found.",
        "Job d2abcdefghijklmnopqr (number 3) ended as ERROR: 1517, see https://docs.quantum.ibm.com/errors#1517",
        "job 4f8c2a10-7c1d-4e35-9f67-0a1b2c3d4e5f timed out after 300 s",
        "HTTPSConnectionPool(host='iam.cloud.ibm.com', port=443): Max retries exceeded with url: /identity/token",
    ],
)
def test_ordinary_messages_stay_as_they_are(text):
    assert redact(text) == text


def refusal(make):
    """Everything that a user may see of an error, its whole traceback included."""
    with pytest.raises(BackendError) as caught:
        make()
    everything = "".join(traceback.format_exception(caught.value))
    assert IN_ENVIRONMENT not in everything
    assert SAVED not in everything
    return str(caught.value)


def test_the_real_client_without_a_network():
    refusal(lambda: build_evaluator(Settings("ibm_kingston", 10), [2], rng=np.random.default_rng(0)))


@pytest.mark.parametrize("stage", ["run", "result"])
def test_errors_of_jobs(stage):
    class Job:
        def result(self):
            raise RuntimeError(f"job of {SAVED} failed: calibration")

    class Estimator(BaseEstimatorV2):
        def run(self, pubs, *, precision=None):
            del pubs, precision
            if stage == "run":
                raise RuntimeError(f"account {SAVED} has no time left")
            return Job()

    program = build_program(AnsatzSpec("ry_tree", "rank_one", 4))
    request = loaded(program, np.ones((1, 4)), np.zeros(program.n_angles))
    evaluator = PrimitiveEvaluator(Estimator(), gaussian_noise=False)
    message = refusal(lambda: evaluator.evaluate([request], shots=10))
    assert ("no time left" if stage == "run" else "calibration") in message


class Service:
    """An account with a minute left."""

    def usage(self):
        return {"usage_remaining_seconds": 60, "usage_consumed_seconds": 540}


class Refused(BaseEstimatorV2):
    """Takes options as the runtime's, and no job."""

    def __init__(self):
        self.options = estimator_options("zne")

    def run(self, pubs, *, precision=None):
        del pubs, precision
        raise RuntimeError(f"sent with {self.options.max_execution_time} s")


@pytest.mark.parametrize(
    ("limit", "value", "shots", "message"),
    [
        (None, None, 1000, "sent with 129 s"),  # two minutes, and four times the estimate
        ("MOST_TWO_QUBIT_GATES", 9, 1000, "9 two-qubit gates with noise amplification"),
        ("MOST_BYTES", 10, 1000, "the angles of a job take 0.0 MB"),
        (None, None, 600_000, "processor time are needed, but your instance has 60 s left"),
    ],
)
def test_what_the_server_would_refuse_is_not_sent(limit, value, shots, message, monkeypatch):
    if limit is not None:
        monkeypatch.setattr(primitive, limit, value)
    program = build_program(AnsatzSpec("ry_tree", "rank_one", 4))
    request = Request(program, np.zeros((1, program.n_angles)))
    evaluator = PrimitiveEvaluator(Refused(), gaussian_noise=False, service=Service())
    with pytest.raises(BackendError, match=message):
        evaluator.evaluate([request], shots=shots)
