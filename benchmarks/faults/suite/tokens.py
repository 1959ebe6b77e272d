"""A token planted in the environment and in Qiskit's account file: no command may print it or write it down."""

import base64
import json
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from benchmarks.faults.suite.commands import Nursery
from benchmarks.faults.suite.inputs import BACKEND_CONFIG, CONFIG, DATA, LEARN_CONFIG, MODEL, STRUCTURES, write_inputs
from benchmarks.faults.suite.outcomes import Outcome
from qiskit_qff.cli.main import VERBS

_MD = ("--steps", "10", "--interval", "2", "--checkpoint", "5", "--timestep", "2")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("train", CONFIG, "--out", MODEL, "--json"),
    ("train", BACKEND_CONFIG, "--out", "measured", "--json"),
    ("train", BACKEND_CONFIG, "--backend", "ibm_nowhere", "--out", "device"),
    ("info", MODEL, "--channels", "--circuit", "--json"),
    ("validate", DATA, "--json"),
    ("evaluate", MODEL, DATA, "--json"),
    ("evaluate", MODEL, DATA, "--backend", "fake_manila", "--shots", "20", "--strategy", "operator", "--json"),
    ("evaluate", MODEL, DATA, "--backend", "ibm_nowhere", "--shots", "20"),
    ("cost", MODEL, "--backend", "fake_manila", "--json"),
    ("cost", MODEL, "--backend", "ibm_nowhere"),
    (
        "calibrate",
        MODEL,
        "--backend",
        "fake_manila",
        "--shots",
        "20",
        "--run",
        "run",
        "--out",
        "calibrated.json",
        "--json",
    ),
    ("calibrate", MODEL, "--backend", "ibm_nowhere", "--out", "device.json"),
    ("calibrate", "--from", "run", "--out", "imported.json", "--json"),
    ("md", MODEL, DATA, "--out", "dynamics", *_MD, "--json"),
    ("analyse", "dynamics/trajectory.extxyz", "--element", "Cu", "--json"),
    ("lammps", MODEL, DATA, "--out", "lammps", "--json"),
    ("select", MODEL, STRUCTURES, "--n", "2", "--out", "chosen.extxyz", "--json"),
    ("label", STRUCTURES, "--calculator", "emt", "--out", "labelled.extxyz", "--json"),
    ("baseline", CONFIG, "--models", "linear_selected", "--out", "baseline", "--json"),
    ("export", MODEL, "--out", "plain.json", "--json"),
    ("report", MODEL, "--out", "again.html", "--json"),
    ("learn", LEARN_CONFIG, "--out", "learnt", "--json"),
    ("demo", "--help"),
)
"""What is run; `demo` only says its help, because it calls nothing that the others do not, and takes minutes."""


def planted_token(*, say: Callable[[str], None], skip: frozenset[str] = frozenset()) -> Outcome:
    """Run every verb with the token in reach, and search all that it left."""
    token = "planted" + secrets.token_hex(24)
    outcome = Outcome("token in environment and account file", "every verb")
    with tempfile.TemporaryDirectory(prefix="qff-token-") as name:
        work = Path(name)
        home, directory, prints = work / "home", work / "work", work / "prints"
        for place in (home / ".qiskit", directory, prints):
            place.mkdir(parents=True)
        account = {
            "channel": "ibm_quantum_platform",
            "token": token,
            "instance": "crn:v1:planted",
            "url": "http://127.0.0.1:9",
        }
        (home / ".qiskit" / "qiskit-ibm.json").write_text(json.dumps({"default": account}))
        environment = {"HOME": str(home), "QISKIT_IBM_TOKEN": token, "QISKIT_IBM_URL": "http://127.0.0.1:9"}
        write_inputs(directory)
        with Nursery(environment) as nursery:
            for arguments in COMMANDS:
                if arguments[0] in skip:
                    continue
                ended = nursery.run(list(arguments), directory, place=prints)
                needs_device = "ibm_nowhere" in arguments
                problem = None
                if (ended.code == 0) == needs_device:
                    problem = f"exit code {ended.code}: {ended.stderr[-300:]}"
                problem = problem or _found(token, [directory, prints])
                outcome.add(problem and f"{' '.join(arguments)}: {problem}")
                say(f"token: qff {' '.join(arguments)}: {problem or 'not found'}")
    missing = sorted(set(VERBS) - {arguments[0] for arguments in COMMANDS})
    outcome.remark = f"{len({a[0] for a in COMMANDS} - skip)} verbs" + (
        f"; not run: {', '.join(missing)}" if missing else ""
    )
    return outcome


def _found(token: str, places: list[Path]) -> str | None:
    """The first file that holds the token, plain or encoded."""
    forms = {token, quote(token), base64.b64encode(token.encode()).decode(), token.encode().hex()}
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and any(form.encode() in path.read_bytes() for form in forms):
                return f"the token is in {path.relative_to(place)}"
    return None
