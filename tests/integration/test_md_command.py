"""``qff md`` as its own process: killed, interrupted, exploded, and what it prints."""

import signal
import subprocess
import sys
import time

import pytest
from ase.io import read, write
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import small_quantum_model

QFF = [sys.executable, "-c", "from qiskit_qff.cli.main import main; main()"]
STEPS = 2000


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    directory = tmp_path_factory.mktemp("md")
    small_quantum_model().save(directory / "model.json")
    write(directory / "crystal.extxyz", mixed_crystal(2, rattle=0.05))
    return directory


def command(workplace, out, *, structure="crystal.extxyz", steps=STEPS, **options):
    choices = {"temperature": 30, "timestep": 4, "ensemble": "nve", "interval": 10, "checkpoint": 100, **options}
    words = [word for name, value in choices.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ["md", str(workplace / "model.json"), str(workplace / structure), "--steps", str(steps), "--out", str(out),
            *(word for word in words if word != "True")]  # fmt: skip


def interrupt(arguments, out, how, *, after_bytes):
    """Start a run, and send it a signal once its log has grown."""
    process = subprocess.Popen([*QFF, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log, deadline = out / "log.csv", time.monotonic() + 60
    start = log.stat().st_size if log.exists() else 0
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.stat().st_size > start + after_bytes:
            process.send_signal(how)
            break
        time.sleep(0.01)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_a_request_to_stop_saves_and_exits_with_130(workplace, tmp_path, qff):
    out = tmp_path / "run"
    code, errors = interrupt(command(workplace, out, steps=10**7), out, signal.SIGTERM, after_bytes=2500)
    assert code == 130
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    stopped_at = int(errors.split("stopped at step ")[1].split(";")[0])
    result, _ = qff(*command(workplace, out, steps=stopped_at + 5))
    assert result["resumed_from_step"] == stopped_at
    steps = [frame.info["step"] for frame in read(out / "trajectory.extxyz", index=":")]
    assert steps == list(range(0, stopped_at + 6, 10))


def test_analyse_reads_the_trajectory(workplace, tmp_path, qff):
    result, _ = qff(*command(workplace, tmp_path / "run", steps=200))
    assert (result["steps"], result["time_ps"], result["ensemble"]) == (200, 0.8, "nve")
    assert result["resumed_from_step"] is None
    path = result["trajectory"]
    for written in (path, result["log"]):
        assert (tmp_path / written).stat().st_size > 0
    numbers, errors = qff("analyse", path, "--element", "Ar", "--reference", path)
    assert numbers["rdf_mae"] == 0.0
    assert numbers["n_frames"] == 21
    assert numbers["diffusivity_cm2_per_s"] is None  # too short, and said so
    assert "no diffusivity of Ar" in errors
    assert (tmp_path / "run" / "analysis" / "rdf.png").exists()
    longer, _ = qff(*command(workplace, tmp_path / "run", steps=1200))
    assert longer["resumed_from_step"] == 200
    numbers, _ = qff("analyse", path, "--element", "Kr", "--skip", 0.4)
    assert numbers["is_caged"] is True  # of a crystal
    assert numbers["diffusivity_upper_cm2_per_s"] > 0.0
    assert numbers["conductivity_s_per_cm"] is None
    assert numbers["lost_atoms"] == 0


def test_explosion_exits_with_1_and_keeps_the_checkpoint(workplace, tmp_path, qff):
    out = tmp_path / "run"
    _, errors = qff(*command(workplace, out, temperature=3000, timestep=40), code=1)
    assert "exploded" in errors
    assert (out / "checkpoint.npz").exists()
