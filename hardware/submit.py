"""Submit the calibration of a model: plan it, say what it costs, send its jobs, leave.

python -m hardware.submit MODEL --out RUN --backend fake_torino --preset standard [--dry-run]
python -m hardware.submit --out RUN          # go on after a crash: sends what was not sent yet, or has failed
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from hardware.presets import read_settings
from qiskit_qff.errors import QFFError
from qiskit_qff.model.calibration_run import calibration_cost, load_run, planned_run, submit_missing
from qiskit_qff.model.force_field import ForceField


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
        if options.dry_run:
            _, words = calibration_cost(ForceField.load(options.model), settings)
            _say(f"would send {words}; nothing was sent or written")
            return
        run = planned_run(options.model, options.out, settings, _say)
    submit_missing(run, _say)
    _say(f"All {len(run.jobs)} jobs are submitted. Collect them with: python -m hardware.collect {options.out}")


if __name__ == "__main__":
    sys.exit(main())
