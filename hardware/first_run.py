"""The first run on a real device: cost, calibration, comparison with a fake device and with DFT, and a record of it.

    python hardware/first_run.py --backend fake_kingston    # a rehearsal, needs no account
    python hardware/first_run.py --backend ibm_kingston     # asks before it spends seconds of processor time

The model has 99 parameters and is what ``qff train li6ps5cl`` makes. Jobs are kept in ``DIR``: after an interruption,
the same command goes on and pays nothing twice. ``DIR/record.json`` holds no token and no account data.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from qiskit_qff import ForceField
from qiskit_qff.cli.main import run
from qiskit_qff.evaluators.backends import is_simulated
from qiskit_qff.model.calibration import calibration_errors, calibration_summary, rms_std_errors
from qiskit_qff.structures.dataset import read_frames

DATA, MODEL = "li6ps5cl", Path(__file__).resolve().parents[1] / "notebooks" / "data" / "li6ps5cl_model.json"
KEPT = (
    *("backend", "shots", "mitigation", "dynamical_decoupling", "date", "qubits", "two_qubit_errors"),
    *("readout_errors", "n_registers", "std_error_ev", "deviation_ev"),
)
"""What the record tells of a calibration: nothing of the account, no ids of jobs."""


def command(*words):
    """Run ``qff`` and show the command; end where it fails."""
    words = [str(word) for word in words]
    print("$ qff", *words, flush=True)
    if code := run(words):
        sys.exit(code)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", required=True, help="fake_kingston for a rehearsal, or a device of your account")
    parser.add_argument("--fake", default="fake_kingston", help="fake device of the same family, to compare with")
    parser.add_argument("--shots", type=int, default=4096, help="shots per circuit")
    parser.add_argument("--frames", type=int, default=10, help="held-out frames to compare forces on")
    parser.add_argument("--dir", type=Path, default=Path("first-run"), help="where everything is kept")
    parser.add_argument("--yes", action="store_true", help="do not ask before jobs are sent")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    shots = ("--shots", given.shots, "--mitigation", "readout")

    command("cost", MODEL, "--backend", given.backend, *shots)
    if (
        not is_simulated(given.backend)
        and not given.yes
        and input("Send the calibration? [y/N] ").strip().lower() != "y"
    ):
        sys.exit("Nothing was sent.")

    measured = {"device": given.backend, "fake": given.fake}
    if given.backend == given.fake:  # a rehearsal
        del measured["device"]
    files = {}
    for name, backend in measured.items():
        files[name] = given.dir / f"{backend}-{given.shots}.json"
        if not files[name].exists():
            jobs = files[name].with_suffix(".run")
            command("calibrate", MODEL, "--backend", backend, *shots, "--run", jobs, "--out", files[name])

    exact = ForceField.load(MODEL)
    frames = [frame for frame in read_frames(DATA) if not exact.has_seen(frame)][: given.frames]
    fields = {"exact": exact} | {name: ForceField.load(path) for name, path in files.items()}
    forces = {name: np.concatenate([field.predict(f).forces for f in frames]) for name, field in fields.items()}
    labels = np.concatenate([frame.forces for frame in frames])
    record = {
        "data": DATA,
        "n_frames": len(frames),
        "n_trainable": exact.n_trainable,
        "versions": {name: version(name) for name in ("qiskit_qff", "qiskit", "qiskit-ibm-runtime", "qiskit-aer")},
        "exact": {"force_mae_to_dft_mev_per_ang": 1e3 * float(np.abs(forces["exact"] - labels).mean())},
    }
    for name in measured:
        summary = calibration_summary(fields[name])
        record[name] = {
            "force_mae_to_dft_mev_per_ang": 1e3 * float(np.abs(forces[name] - labels).mean()),
            "force_mae_to_exact_mev_per_ang": 1e3 * float(np.abs(forces[name] - forces["exact"]).mean()),
            **rms_std_errors(calibration_errors(fields[name], frames), frames),
            "species": {symbol: {key: entry[key] for key in KEPT} for symbol, entry in summary.items()},
        }
    path = given.dir / "record.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{'forces (meV/Å)':16s} {'off DFT':>8s} {'off exact':>10s} {'std error':>10s}")
    for name in fields:
        entry = record[name]
        keys = ("force_mae_to_dft_mev_per_ang", "force_mae_to_exact_mev_per_ang", "force_std_mev_per_ang")
        print(f"{measured.get(name, name):16s} " + " ".join(f"{entry[key]:9.1f}" for key in keys if key in entry))
    print(f"written: {path}; send it as a pull request that adds it to hardware/records/")


if __name__ == "__main__":
    main()
