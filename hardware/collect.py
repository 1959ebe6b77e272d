"""Collect a calibration: fetch what is finished, on any machine that has the run directory, and assemble M.

    python -m hardware.collect RUN [--no-wait]

Writes ``operators.json``: for every species the measured matrix, the variances of the measured states, whether the
known spectrum was imposed, and the calibration snapshot. Species whose jobs failed or are not finished are left out
and named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hardware.run_directory import (
    Run,
    bound_programs,
    job_requests,
    load_result,
    load_run,
    save_result,
    write_atomically,
)
from hardware.servers import RuntimeServer, Server, open_server
from qiskit_qff.circuit.compiled import operator_matrix
from qiskit_qff.errors import BackendError, QFFError
from qiskit_qff.evaluators.protocol import Cost, Evaluation
from qiskit_qff.evaluators.reading import read_strings
from qiskit_qff.evaluators.strategies.operator import (
    MeasuredOperator,
    assemble_operator,
    chosen_design,
    known_spectrum,
)
from qiskit_qff.evaluators.z_strings import string_set


def fetch(run: Run, server: Server, say: Callable[[str], None], *, wait: bool) -> list[int]:
    """Store the result of every job that is finished; returns the jobs that are missing.

    Args:
        run: The run.
        server: Where the jobs are.
        say: Receives messages.
        wait: Whether to wait for jobs that still run.
    """
    known, missing = run.submitted(), []
    for job in run.jobs:
        if run.result_path(job).exists():
            continue
        try:
            data = server.result(known[job.index], job, wait=wait) if job.index in known else None
        except BackendError as error:
            say(f"job {job.index + 1}: {error}")
            data = None
        if data is None:
            missing.append(job.index)
            continue
        save_result(run.result_path(job), data)
        say(f"job {job.index + 1}/{len(run.jobs)} collected")
    return missing


def assemble(run: Run) -> dict[int, MeasuredOperator]:
    """Measured operators of all species whose jobs are complete, with their known spectrum where there is one.

    Args:
        run: The run.
    """
    field = run.field()
    operators = {}
    for species, bound in bound_programs(field).items():
        jobs = [job for job in run.jobs if job.species == species]
        if not all(run.result_path(job).exists() for job in jobs):
            continue
        answers: dict[int, Evaluation] = {}
        for job in jobs:
            data = load_result(run.result_path(job))
            requests = job_requests(field, job, run.settings.design)
            for index, request, item in zip(job.requests, requests, data, strict=True):
                strings = string_set(request.task.readouts)
                values, covariances, _ = read_strings(item, strings, run.settings.shots)
                answers[index] = Evaluation(values, covariances, Cost(len(values), len(values) * run.settings.shots))
        ordered = [answers[index] for index in sorted(answers)]
        measured = assemble_operator(bound, ordered, design=chosen_design(run.settings.design, bound))
        spectrum = known_spectrum(bound)
        operators[species] = measured if spectrum is None else measured.with_spectrum(spectrum)
    return operators


def write_operators(run: Run, operators: dict[int, MeasuredOperator]) -> Path:
    """Write ``operators.json``."""
    content = {
        "run_id": run.run_id,
        "snapshot": dict(run.snapshot),
        "settings": {"mitigation": run.settings.mitigation, "shots": run.settings.shots, "design": run.settings.design},
        "species": {str(species): _entry(operator) for species, operator in operators.items()},
    }
    path = run.directory / "operators.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return path


def _entry(operator: MeasuredOperator) -> dict[str, Any]:
    """One species as plain numbers."""
    return {
        "matrix": operator.matrix.tolist(),
        "variances": operator.variances.tolist(),
        "spectrum_known": operator.tangent is not None,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--no-wait", action="store_true", help="take what is finished and leave")
    options = parser.parse_args(arguments)
    try:
        return _collect(options.run, wait=not options.no_wait)
    except QFFError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _collect(directory: Path, *, wait: bool) -> int:
    """Fetch, assemble, report; exit code 3 while jobs are missing."""
    run = load_run(directory)
    missing = fetch(run, open_server(run, lambda: RuntimeServer(run)), lambda text: print(text, flush=True), wait=wait)
    operators = assemble(run)
    exact = {
        species: operator_matrix(b.program, b.theta, b.weights) for species, b in bound_programs(run.field()).items()
    }
    for species, operator in operators.items():
        used = operator.design.n_amplitudes
        error = np.sqrt(np.mean((operator.matrix - exact[species])[:used, :used] ** 2))
        print(f"species {species}: rms error of M against the exact circuit {error:.2e} eV")
    print(f"written: {write_operators(run, operators)}")
    if missing:
        print(
            f"jobs still missing: {', '.join(str(index + 1) for index in missing)}; run hardware.submit, then collect"
        )
    return 3 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
