"""A handful of the faults of ``benchmarks``, kills and malformed files, and a planted token."""

import base64
import json
import random
import secrets
from urllib.parse import quote

import blank
import kills
import numpy as np
import pytest
from kills import COMMANDS, Ended, Workshop, qff
from malformed import CASES, malformed, spoil

from qiskit_qff.cli.main import run
from qiskit_qff.errors import QFFError
from qiskit_qff.model.config import load_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.recording import read_checkpoint, read_log
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.structures.dataset import read_frames

KILLS = {"train": 1, "train --backend aer": 1, "md": 2, "label": 1, "calibrate": 1, "learn": 1}
READERS = {
    "run/model.json": ForceField.load,
    "config.yaml": load_config,
    "data.extxyz": read_frames,
    "md/log.csv": read_log,
    "md/checkpoint.npz": read_checkpoint,
    "md/trajectory.extxyz": read_trajectory,
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """The inputs of all commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kills, "child", blank.child)
        shorter = kills.CONFIGURATIONS["measured.yaml"].replace("steps: 4", "steps: 2")
        patch.setitem(kills.CONFIGURATIONS, "measured.yaml", shorter)
        yield Workshop(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_survive_kills(workshop, name) -> None:
    row = workshop.kill(name, count=KILLS[name], rng=np.random.default_rng(5))
    assert row["problems"] == []


@pytest.mark.slow
def test_malformed_input_is_refused(workshop, monkeypatch, capsys) -> None:
    def execute(arguments, directory, _):
        monkeypatch.chdir(directory)
        code = run(arguments)
        return Ended(code, *capsys.readouterr(), 0.0, 0)

    made, _ = malformed(workshop, cases=CASES, spoilt=0, execute=execute, say=lambda _: None)
    assert made["problems"] == []


@pytest.mark.slow
def test_a_token_in_reach_is_neither_printed_nor_written(workshop, tmp_path) -> None:
    token, home, address = "planted" + secrets.token_hex(24), tmp_path / "home", "http://127.0.0.1:9"
    (home / ".qiskit").mkdir(parents=True)
    account = {"channel": "ibm_quantum_platform", "token": token, "instance": "crn:v1:planted", "url": address}
    (home / ".qiskit" / "qiskit-ibm.json").write_text(json.dumps({"default": account}))
    environment = {"HOME": str(home), "QISKIT_IBM_TOKEN": token, "QISKIT_IBM_URL": address}
    work = workshop.fresh()
    forms = [token, quote(token), base64.b64encode(token.encode()).decode(), token.encode().hex()]
    for arguments in (
        COMMANDS["train --backend aer"],
        ["train", "measured.yaml", "--backend", "ibm_nowhere", "--out", "device"],
        ["evaluate", "model", "data.extxyz", "--backend", "ibm_nowhere", "--shots", "20"],
        ["cost", "model", "--backend", "ibm_nowhere"],
        COMMANDS["calibrate"],
        ["calibrate", "model", "--backend", "ibm_nowhere", "--out", "device.json"],
        [*COMMANDS["md"][:3], "--out", "dynamics", "--steps", "10", "--timestep", "2"],
        ["report", "model", "--out", "page.html"],
    ):
        ended = qff(arguments, work, workshop.prints, environment=environment)
        assert (ended.code == 0) == ("ibm_nowhere" not in arguments), ended.stderr
        for path in [*work.rglob("*"), *workshop.prints.rglob("*")]:
            found = path.is_file() and any(form.encode() in path.read_bytes() for form in forms)
            assert not found, f"qff {' '.join(arguments)}: the token is in {path}"


@pytest.fixture(scope="session")
def files(trained):
    """A good file of each kind that commands leave behind."""
    md = ["--steps", "4", "--interval", "2", "--checkpoint", "2", "--out", str(trained / "md"), "--force"]
    assert run(["md", str(trained / "run"), str(trained / "data.extxyz"), *md]) == 0
    return trained


@pytest.mark.parametrize("name", READERS)
def test_readers_of_spoilt_files_raise_nothing_else(files, tmp_path, name) -> None:
    rng, refused, path = random.Random(7), [], tmp_path / name.rpartition("/")[2]
    for _ in range(60):
        path.write_bytes(spoil((files / name).read_bytes(), rng))
        try:
            READERS[name](path)
        except QFFError as error:
            refused.append(str(error))
        path.unlink(missing_ok=True)
    assert len(refused) > 5
    assert all(len(words) > 20 for words in refused)
