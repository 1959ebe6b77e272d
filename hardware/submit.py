"""Submit the calibration of a model: plan it, say what it costs, send its jobs, leave.

python -m hardware.submit MODEL --out RUN --backend fake_torino --preset standard [--dry-run]
python -m hardware.submit --out RUN          # go on after a crash: sends what was not sent yet, or has failed
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from hardware.cost import describe_cost, estimate
from hardware.presets import read_settings
from qiskit_qff.errors import QFFError
from qiskit_qff.evaluators.backends import find_device
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.remote.jobs import sending_server, snapshot_of, submit_missing
from qiskit_qff.model.remote.run_directory import create_run, load_run


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="model.json; left out when a run is resumed")
    parser.add_argument("--out", type=Path, required=True, help="directory of the run")
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--mitigation")
    parser.add_argument(
        "--dynamical-decoupling", action=argparse.BooleanOptionalAction, help="override the preset's choice"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what it would cost, send and write nothing")
    options = parser.parse_args(arguments)
    try:
        _submit(options)
    except (QFFError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _say(text: str) -> None:
    """Print at once, so that a log shows how far a killed run came."""
    print(text, flush=True)


def _submit(options: argparse.Namespace) -> None:
    """Plan or resume a run and send its jobs."""
    if options.model is None:
        run = load_run(options.out)
    else:
        settings = read_settings(options.preset, options.backend)
        names = ("shots", "mitigation", "dynamical_decoupling")
        settings = replace(settings, **{key: given for key in names if (given := getattr(options, key)) is not None})
        find_preset(settings.mitigation)
        field = ForceField.load(options.model)
        device = find_device(settings.backend, n_qubits=field.n_qubits)
        _say(describe_cost(estimate(field, settings, device)))
        if options.dry_run:
            return
        run = create_run(options.out, options.model, settings, snapshot_of(device, field))
    with sending_server(run) as server:
        submit_missing(run, server, _say)
    _say(f"All {len(run.jobs)} jobs are submitted. Collect them with: python -m hardware.collect {options.out}")


if __name__ == "__main__":
    sys.exit(main())
