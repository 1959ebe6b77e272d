"""``qff evaluate --dry-run``: what an evaluation would measure, and what it would take."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.evaluators.backends import Device
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.structures.frame import Frame


def rehearse(
    field: "ForceField",
    frames: "Sequence[Frame]",
    output: Output,
    *,
    backend: str,
    strategy: str,
    shots: int | None,
    mitigation: str,
    decoupling: bool,
) -> None:
    """Check model, data and backend, and say what would be measured; measure nothing.

    Args:
        field: the model.
        frames: what it would be evaluated on.
        output: where to say it.
        backend: where circuits would run.
        strategy: which circuits.
        shots: executions per circuit; None for exact values.
        mitigation: preset of error mitigation.
        decoupling: whether idle qubits would be decoupled.

    Raises:
        ConfigError: if the backend can't do what is asked.
        BackendError: if the backend can't be reached.
        DataError: if a frame holds an element that the model does not know.
    """
    import numpy as np

    from qiskit_qff.evaluators.backends import NOISELESS, build_evaluator, find_device
    from qiskit_qff.evaluators.mitigation import find_preset
    from qiskit_qff.evaluators.primitive import JobLimits
    from qiskit_qff.structures.species import species_index

    for frame in frames:
        species_index(frame.numbers, field.species, where=frame.where)
    result: dict[str, Any] = {"n_frames": len(frames), "n_atoms": sum(frame.n_atoms for frame in frames)}
    output.say(f"would evaluate {result['n_frames']} frames, {result['n_atoms']} atoms in all, on {backend}")
    if backend == "exact" and shots is None:
        output.say("by exact linear algebra, without a circuit")
        output.finish(result)
        return
    build_evaluator(
        backend,
        n_qubits=field.n_qubits,
        shots=shots,
        mitigation=mitigation,
        dynamical_decoupling=decoupling,
        rng=np.random.default_rng(0),
    )
    device = None if backend in NOISELESS else find_device(backend, n_qubits=field.n_qubits)
    circuits = _circuits(field, frames, strategy, device)
    result |= {"n_circuits": circuits, "n_shots": circuits * (shots or 0)}
    words = f"by {strategy}: at most {circuits} circuits, {result['n_shots']} shots"
    if device is not None:
        jobs = -(-circuits // JobLimits().sets_per_job(shots or 1))
        result["qpu_seconds"] = device.timing(find_preset(mitigation)).seconds(shots=result["n_shots"], jobs=jobs)
        words += f"; on a device about {result['qpu_seconds']:.0f} s of processor time (estimate)"
    output.say(f"{words}; nothing was run")
    output.finish(result)


def _circuits(field: "ForceField", frames: "Sequence[Frame]", strategy: str, device: "Device | None") -> int:
    """Circuits of an evaluation: those that measure M once, where the strategy does, and those of every frame."""
    from qiskit_qff.model.placement import place_registers, rounds_of
    from qiskit_qff.model.quantum_cost import circuit_counts

    found, rounds = 0, rounds_of(place_registers(field, device))
    if strategy != "environment":
        found += circuit_counts(field, {}, n_frames=1, rounds=rounds)[strategy]["once"]
    for frame in frames:
        counts = circuit_counts(field, Counter(frame.numbers.tolist()), n_frames=1, rounds=rounds)[strategy]
        found += max(counts["energy"], counts["forces"])  # by environment the forces' circuits hold the energy's
    return found
