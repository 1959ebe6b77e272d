"""From the results of a calibration to operators, to ``operators.json``, and to a calibrated model.

``operators.json`` holds, for every register whose jobs are complete, the measured matrix, the variances of the measured
states and the ids of the jobs, and beside them the settings and the calibration of the device at that time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.cutout import QubitLine
from qiskit_qff.evaluators.protocol import Cost, Evaluation
from qiskit_qff.evaluators.reading import read_strings
from qiskit_qff.evaluators.strategies.operator import MeasuredOperator, assemble_operator
from qiskit_qff.evaluators.strategies.spectrum import chosen_design, known_spectrum
from qiskit_qff.evaluators.z_strings import string_set
from qiskit_qff.model.calibrated_operator import CalibratedOperator, Provenance
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.register import RegisterKey
from qiskit_qff.model.remote.run_directory import (
    Run,
    bound_programs,
    job_requests,
    load_result,
    load_run,
    operator_plan,
)

OPERATORS = "operators.json"
"""File of a run directory that holds what was measured."""


def assemble(run: Run) -> dict[RegisterKey, MeasuredOperator]:
    """Measured operators of all registers whose jobs are complete, with their known spectrum where there is one.

    Args:
        run: The run.

    Raises:
        ConfigError: If a result does not belong to the plan.
    """
    field = run.field()
    plan = operator_plan(field, run.settings.design)
    answers: dict[int, Evaluation] = {}
    for job in run.jobs:
        if not run.result_path(job).exists():
            continue
        data, requests = load_result(run.result_path(job)), job_requests(run, job)
        if len(data) != len(requests):
            raise ConfigError(
                f"{run.result_path(job)}: {len(data)} answers to {len(requests)} requests of "
                f"{run.directory}/run.json; one of them was edited: restore it from a copy, or start a new run."
            )
        for ((index, _), request), item in zip(requests, data, strict=True):
            strings = string_set(request.task.readouts)
            values, covariances, _ = read_strings(item, strings, run.settings.shots)
            answers[index] = Evaluation(values, covariances, Cost(len(values), len(values) * run.settings.shots))
    operators = {}
    for key, bound in bound_programs(field).items():
        own = [index for index, (owner, _) in enumerate(plan) if owner == key]
        if not all(index in answers for index in own):
            continue
        ordered = [answers[index] for index in own]
        measured = assemble_operator(bound, ordered, design=chosen_design(run.settings.design, bound))
        spectrum = known_spectrum(bound)
        operators[key] = measured if spectrum is None else measured.with_spectrum(spectrum)
    return operators


def write_operators(run: Run, operators: Mapping[RegisterKey, MeasuredOperator]) -> Path:
    """Write ``operators.json`` into the run's directory.

    Args:
        run: The run.
        operators: What :func:`assemble` gave.
    """
    settings, field, ids = run.settings, run.field(), run.submitted()
    bounds, plan = bound_programs(field), operator_plan(field, run.settings.design)
    lines = {key: tile.line for key, tile in run.tiles().items()}
    registers = [
        {
            "number": key[0],
            "register": key[1],
            "matrix": operator.matrix.tolist(),
            "variances": operator.variances.tolist(),
            "design": chosen_design(settings.design, bounds[key]),
            "spectrum_known": known_spectrum(bounds[key]) is not None,
            "modes": None if operator.modes is None else operator.modes.tolist(),
            "job_ids": [
                ids[job.index]
                for job in run.jobs
                if job.index in ids and any(plan[index][0] == key for index in job.requests)
            ],
            **_errors_of(lines[key]),
        }
        for key, operator in operators.items()
    ]
    content = {
        "run_id": run.run_id,
        "backend": run.snapshot["backend"],
        "date": run.snapshot["date"],
        "settings": {
            "mitigation": settings.mitigation,
            "dynamical_decoupling": settings.dynamical_decoupling,
            "shots": settings.shots,
            "design": settings.design,
            "seed": settings.seed,
        },
        "registers": registers,
    }
    path = run.directory / OPERATORS
    write_atomically(path, json.dumps(content, indent=1).encode())
    return path


def _errors_of(line: QubitLine | None) -> dict[str, list[float] | list[int]]:
    """Qubits of a register and their error rates; empty on simulators without noise."""
    if line is None:
        return {"qubits": [], "two_qubit_errors": [], "readout_errors": []}
    return {
        "qubits": list(line.qubits),
        "two_qubit_errors": list(line.two_qubit_errors),
        "readout_errors": list(line.readout_errors),
    }


def calibrated_model(directory: Path, *, field: ForceField | None = None) -> ForceField:
    """The model of a run, with what was measured in it; registers that are not complete keep the exact M.

    Args:
        directory: A run directory with ``operators.json``.
        field: The model to calibrate; the one that was submitted by default.

    Raises:
        ConfigError: If there are no operators, they are damaged, or the model has other parameters.
    """
    submitted = load_run(directory).field()
    path = directory / OPERATORS
    if not path.is_file():
        raise ConfigError(f"{path} is missing; fetch the results first: python -m hardware.collect {directory}")
    chosen = submitted if field is None else field
    _check_same_circuits(chosen, submitted, directory)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = {
            (int(entry["number"]), int(entry["register"])): _operator(entry, content) for entry in content["registers"]
        }
        registers = chosen.registers
        changed = {key: replace(registers[key], measured=operator) for key, operator in measured.items()}
        model = chosen.with_registers(changed)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise ConfigError(
            f"{path}: is damaged ({type(error).__name__}: {error}); write it again: "
            f"python -m hardware.collect {directory}"
        ) from error
    if not measured:
        raise ConfigError(f"{path}: no register is complete; collect again when its jobs are done.")
    return model


def _operator(entry: Mapping[str, Any], content: Mapping[str, Any]) -> CalibratedOperator:
    """One register of ``operators.json``."""
    settings = content["settings"]
    provenance = Provenance(
        backend=str(content["backend"]),
        shots=int(settings["shots"]),
        mitigation=str(settings["mitigation"]),
        date=str(content["date"]),
        seed=settings.get("seed"),
        dynamical_decoupling=bool(settings["dynamical_decoupling"]),
        qubits=tuple(int(qubit) for qubit in entry["qubits"]),
        two_qubit_errors=tuple(float(error) for error in entry["two_qubit_errors"]),
        readout_errors=tuple(float(error) for error in entry["readout_errors"]),
        job_ids=tuple(str(identity) for identity in entry["job_ids"]),
    )
    matrix = np.asarray(entry["matrix"], dtype=np.float64)
    return CalibratedOperator(
        matrix=0.5 * (matrix + matrix.T),
        variances=np.asarray(entry["variances"], dtype=np.float64),
        design=entry["design"],
        spectrum_known=bool(entry["spectrum_known"]),
        modes=None if entry["modes"] is None else np.asarray(entry["modes"], dtype=np.float64),
        provenance=provenance,
    )


def _check_same_circuits(field: ForceField, submitted: ForceField, directory: Path) -> None:
    """Refuse a model whose M is another than the one that was measured.

    Raises:
        ConfigError: If a register, angle or weight differs.
    """
    ours, theirs = field.registers, submitted.registers
    same = ours.keys() == theirs.keys() and all(
        one.ansatz == theirs[key].ansatz
        and np.array_equal(one.theta, theirs[key].theta)
        and np.array_equal(one.weights, theirs[key].weights)
        for key, one in ours.items()
    )
    if not same:
        raise ConfigError(
            f"The model has other circuits than the one that was measured in {directory}; "
            f"leave MODEL out, or give the model that was submitted ({directory / 'model.json'} is a copy)."
        )
