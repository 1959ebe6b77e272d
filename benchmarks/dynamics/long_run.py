"""What a nanosecond costs: processor time and memory of the run, disk of its trajectory, and of reading it again.

    python benchmarks/dynamics/long_run.py [--data DIR] [--model model.json] [--smoke]

lips83, 83 atoms, NVT at 520 K, 1 fs, a frame every 20 fs: 50,000 frames a nanosecond. Disk is what short runs wrote,
scaled to their number of frames; time is the processor's, one thread. Reading is `read_trajectory`
and `analyse` (everything that `qff analyse` looks for, without figures), each in a process of its own over trajectories
of two lengths, made of the run's last frame with random displacements.
"""

# ruff: noqa: E402

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np

import qiskit_qff
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.analysis import AnalysisSettings, analyse
from qiskit_qff.simulation.dynamics import CHECKPOINT, run_dynamics
from qiskit_qff.simulation.recording import LogEntry, Recorder
from qiskit_qff.simulation.settings import MDSettings
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped

RESULTS = Path(__file__).parents[1] / "results"
FORMS = {
    "plain": {},
    "no_velocities": {"velocities": False},
    "compact": {"compact": True},
    "compact_no_velocities": {"compact": True, "velocities": False},
}
FRAMES_PER_NS = 50_000


def peak_mib():
    """Largest memory of this process so far, in MiB (getrusage would count that of the process that started it)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(field, frame, folder, steps):
    """Processor time of a step, memory, and MB of a nanosecond for each form of the trajectory."""
    result = {"mb_per_ns": {}}
    warm = MDSettings(temperature_k=520.0, steps=5, timestep_fs=1.0)
    run_dynamics(frame.to_atoms(), field, warm, folder / "warm")  # kernels are compiled
    for name, form in FORMS.items():
        settings = MDSettings(temperature_k=520.0, steps=steps, timestep_fs=1.0, interval=20, **form)
        begin = time.process_time()
        summary = run_dynamics(frame.to_atoms(), field, settings, folder / name)
        result[f"{name}_cpu_ms_per_step"] = 1e3 * (time.process_time() - begin) / steps
        share = FRAMES_PER_NS / (steps // 20 + 1) / 1e6
        result["mb_per_ns"][name] = summary.trajectory.stat().st_size * share
    result["log_mb_per_ns"] = summary.log.stat().st_size * share
    result["checkpoint_kb"] = (folder / "plain" / CHECKPOINT).stat().st_size / 1e3
    return result | {"steps": steps, "peak_mib": peak_mib()}


def write_walk(frame, folder, n_frames):
    """A trajectory of any length without dynamics: every atom on a spring, lithium on a walk."""
    rng, atoms = np.random.default_rng(0), frame.to_atoms()
    settings = MDSettings(temperature_k=520.0, steps=n_frames, timestep_fs=1.0, compact=True)
    folder.mkdir()
    recorder = Recorder(folder, settings)
    rest = atoms.get_positions()
    walking = (frame.numbers == 3)[:, None]
    for index in range(n_frames):
        rest += 0.02 * walking * rng.standard_normal(rest.shape)
        atoms.positions[:] = rest + 0.1 * rng.standard_normal(rest.shape)
        atoms.set_momenta(rng.standard_normal(rest.shape))
        recorder.write(atoms, LogEntry(index, 20.0 * index, 520.0, *7 * [0.0]))
    recorder.sync()
    recorder.close()


def read_again(path):
    """Processor time and memory of reading a trajectory, of this process."""
    begin = time.process_time()
    before = peak_mib()
    told = analyse(read_trajectory(path), AnalysisSettings()).told
    seconds = time.process_time() - begin
    row = {"n_frames": told["n_frames"], "cpu_s": seconds, "ms_per_frame": 1e3 * seconds / told["n_frames"]}
    print(json.dumps(row | {"peak_mib": peak_mib(), "before_mib": before}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--read", type=Path, help="only read this trajectory and tell time and memory")
    parser.add_argument("--smoke", action="store_true", help="a few steps on the shipped set, nothing written")
    arguments = parser.parse_args()
    if arguments.read:
        read_again(arguments.read)
        return
    frames = read_shipped() if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    options = {"data": {"split": "none"}}
    options |= {"max_parameters": 40, "optimizer": {"restarts": 1}} if arguments.smoke else {}
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        # By attribute, so that the process that only reads does not load the training.
        field = qiskit_qff.train(frames[:600], parse_config(options, where="benchmark")).force_field
    result = {"frames_per_ns": FRAMES_PER_NS, "n_atoms": frames[0].n_atoms, "reading": []}
    with tempfile.TemporaryDirectory() as folder:
        result["run"] = run(field, frames[0], Path(folder), 40 if arguments.smoke else 2000)
        print(json.dumps(result["run"]), flush=True)
        for n_frames in (120, 240) if arguments.smoke else (5_000, 20_000):
            write_walk(frames[0], Path(folder) / str(n_frames), n_frames)
            path = Path(folder) / str(n_frames) / "trajectory.extxyz.gz"
            done = subprocess.run(
                [sys.executable, __file__, "--read", path], check=True, capture_output=True, text=True
            )
            result["reading"].append(json.loads(done.stdout))
            print(done.stdout, end="", flush=True)
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "long_run.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
