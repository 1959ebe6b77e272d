"""Collect a calibration: fetch what is finished, on any machine that has the run directory.

    python -m hardware.collect RUN [--no-wait]

Registers whose jobs failed or are not finished are left out. ``qff calibrate --from RUN --out measured.json`` makes a
model of what is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.errors import QFFError
from qiskit_qff.model.calibration_run import fetch, load_run, measured_operators


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--no-wait", action="store_true", help="take what is finished and leave")
    options = parser.parse_args(arguments)
    try:
        return _collect(options.run, wait=not options.no_wait)
    except (QFFError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _collect(directory: Path, *, wait: bool) -> int:
    """Fetch and report; exit code 3 while jobs are missing."""
    run = load_run(directory)
    missing = fetch(run, lambda text: print(text, flush=True), wait=wait)
    registers = run.field.registers
    errors: dict[str, list[float]] = {}
    for key, operator in measured_operators(run).items():
        difference = operator.matrix - registers[key].circuit_matrix()
        errors.setdefault(chemical_symbols[key[0]], []).append(float(np.mean(difference**2)))
    for symbol, squares in errors.items():
        rms = np.sqrt(np.mean(squares))
        print(f"{symbol}: {len(squares)} registers, rms error of M against the exact circuits {rms:.2e} eV")
    if missing:
        print(
            f"jobs still missing: {', '.join(str(index + 1) for index in missing)}; "
            f"python -m hardware.submit --out {directory} sends failed ones again; then collect"
        )
    return 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
