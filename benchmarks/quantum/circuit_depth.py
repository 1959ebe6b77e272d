"""Two-qubit depth of state preparation and ansatz on devices, for 2 to 6 qubits.

Claims: a brickwork measured by `operator` is the shallowest (its pair states need at most n - 1 CNOT gates on top of
the ansatz), and fractional gates halve the depth of its RZZ variant. The parametrised RY tree is transpiled once for
all states; Qiskit's StatePreparation, compiled for each single state, needs a fifth to a quarter fewer two-qubit gates
on a device, because with known angles the transpiler can merge the routing into the gates. Each circuit is transpiled
for a heavy-hex and a square-lattice device, and for a heavy-hex device with fractional gates (RZZ of any angle); the
shallowest of several transpiler seeds counts.

    python benchmarks/quantum/circuit_depth.py [--seeds 5] [--out benchmarks/results/circuit_depth.json]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit.library import StatePreparation
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import CouplingMap, generate_preset_pass_manager

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.encoding.tree import loader_circuit
from qiskit_qff.evaluators.tasks import pair_task


def devices():
    """Devices by name: 27-qubit heavy-hex lattice, 5 x 5 grid, heavy-hex with fractional gates."""
    plain, fractional = ["rz", "sx", "x", "cz"], ["rz", "rx", "sx", "x", "cz", "rzz"]
    heavy_hex = CouplingMap.from_heavy_hex(3)
    return {
        "heavy_hex": GenericBackendV2(heavy_hex.size(), basis_gates=plain, coupling_map=heavy_hex, seed=1),
        "square": GenericBackendV2(25, basis_gates=plain, coupling_map=CouplingMap.from_grid(5, 5), seed=1),
        "heavy_hex_fractional": GenericBackendV2(
            heavy_hex.size(), basis_gates=fractional, coupling_map=heavy_hex, seed=1
        ),
    }


def circuits(n_qubits):
    """Circuits to compare, by name."""
    size = 2**n_qubits
    state = np.random.default_rng(0).normal(size=size)
    qiskit_loader = QuantumCircuit(n_qubits)
    qiskit_loader.append(StatePreparation(state / np.linalg.norm(state)), range(n_qubits))
    specs = {
        "tree rank one": AnsatzSpec("ry_tree", "rank_one", size),
        "brickwork cz, 4 layers": AnsatzSpec("brickwork_cz", "z_diagonal", size, layers=4, n_readouts=n_qubits),
        "brickwork rzz, 4 layers": AnsatzSpec("brickwork_rzz", "z_diagonal", size, layers=4, n_readouts=n_qubits),
    }
    found = {"loader (RY tree)": loader_circuit(size), "loader (qiskit StatePreparation)": qiskit_loader}
    for name, spec in specs.items():
        program = build_program(spec)
        found[name] = program.circuit
        found[f"loader + {name}"] = loader_circuit(size).compose(program.circuit)
        found[f"worst pair state + {name}"] = pair_task(program, size - 1).circuit
    return found


def two_qubit_figures(circuit, backend, seeds):
    """Smallest two-qubit depth over the seeds, and the gates of that circuit."""
    best = None
    for seed in range(seeds):
        manager = generate_preset_pass_manager(optimization_level=3, backend=backend, seed_transpiler=seed)
        compiled = manager.run(circuit)
        depth = compiled.depth(lambda gate: gate.operation.num_qubits == 2)
        count = compiled.num_nonlocal_gates()
        best = min(best or (depth, count), (depth, count))
    return {"depth": best[0], "gates": best[1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--qubits", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/circuit_depth.json"))
    parser.add_argument("--smoke", action="store_true", help="the smallest case, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.seeds, options.qubits = 1, [2]
    backends = devices()
    rows = []
    for n_qubits in options.qubits:
        for name, circuit in circuits(n_qubits).items():
            figures = {label: two_qubit_figures(circuit, backend, options.seeds) for label, backend in backends.items()}
            rows.append({"qubits": n_qubits, "circuit": name, **figures})
            shown = "  ".join(f"{label} {value['depth']:4d} ({value['gates']})" for label, value in figures.items())
            print(f"n={n_qubits}  {name:45s} {shown}", flush=True)
    if options.smoke:
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"seeds": options.seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
