"""What a calibration costs, before anything is sent: circuits, shots, two-qubit depth, processor seconds.

python -m hardware.cost MODEL --backend fake_torino --preset standard
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hardware.presets import read_settings
from qiskit_qff.errors import QFFError
from qiskit_qff.evaluators.backends import Device, device_evaluator, find_device
from qiskit_qff.evaluators.mitigation import find_preset
from qiskit_qff.evaluators.strategies.operator import operator_requests
from qiskit_qff.evaluators.strategies.spectrum import chosen_design
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.model.remote.jobs import snapshot_of
from qiskit_qff.model.remote.run_directory import Settings, plan_jobs, snapshot_tiles


@dataclass(frozen=True)
class CalibrationCost:
    """Figures of a calibration."""

    settings: Settings
    """What is measured."""
    jobs: int
    """Number of jobs."""
    circuits: int
    """States that are measured, over all registers."""
    shots: int
    """Executions in all, without what mitigation adds."""
    two_qubit_depth: int
    """Largest two-qubit depth of a transpiled circuit."""
    two_qubit_gates: int
    """Largest number of two-qubit gates of a transpiled circuit."""
    seconds: float
    """Estimated time on the processor in s."""


def estimate(field: ForceField, settings: Settings, device: Device) -> CalibrationCost:
    """Cost of measuring the operators of all registers.

    Args:
        field: The model.
        settings: What is measured.
        device: What circuits are transpiled for.

    Raises:
        ConfigError: If the device cannot do what the settings ask.
    """
    jobs = plan_jobs(field, settings, snapshot_tiles(snapshot_of(device, field)))
    preset = find_preset(settings.mitigation)
    evaluator = device_evaluator(
        device,
        shots=settings.shots,
        preset=preset,
        dynamical_decoupling=settings.dynamical_decoupling,
        rng=np.random.default_rng(0),
    )
    depths, gates = [0], [0]
    # Registers of one circuit differ in their angles only.
    for register in {register.ansatz: register for register in field.registers.values()}.values():
        bound = register.bound_program()
        for request in operator_requests(bound, design=chosen_design(settings.design, bound)):
            circuit = evaluator.transpiled(request.task)
            depths.append(circuit.depth(lambda gate: gate.operation.num_qubits == 2))
            gates.append(circuit.num_nonlocal_gates())
    circuits = sum(job.circuits for job in jobs)
    shots = circuits * settings.shots
    seconds = device.timing(preset).seconds(shots=shots, jobs=len(jobs))
    return CalibrationCost(settings, len(jobs), circuits, shots, max(depths), max(gates), seconds)


def describe_cost(cost: CalibrationCost) -> str:
    """The figures as text, with the settings they belong to."""
    settings = cost.settings
    return "\n".join(
        [
            f"backend             {settings.backend} ({settings.mode} mode)",
            f"mitigation          {settings.mitigation}: {find_preset(settings.mitigation).description}"
            + (", dynamical decoupling" if settings.dynamical_decoupling else ""),
            f"jobs                {cost.jobs}",
            f"circuits            {cost.circuits} (each state once; none afterwards, whatever is simulated)",
            f"shots               {settings.shots} a circuit, {cost.shots} in all",
            f"two-qubit depth     {cost.two_qubit_depth} at most, {cost.two_qubit_gates} gates",
            f"processor time      about {cost.seconds:.0f} s (estimate; the provider's accounting decides)",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--preset", default="standard")
    options = parser.parse_args(arguments)
    try:
        field = ForceField.load(options.model)
        device = find_device(options.backend, n_qubits=field.n_qubits)
        print(describe_cost(estimate(field, read_settings(options.preset, options.backend), device)))
    except (QFFError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
