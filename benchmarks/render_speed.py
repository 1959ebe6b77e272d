"""The speed part of the results: a step against SNAP, growth with size, threads and processes, circuits."""

import json
import statistics
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def read(name):
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def lines():
    """One line a claim, each with its script."""
    found = []
    scaling = read("scaling") or {}
    if size := scaling.get("size"):
        small, large = size["rows"][0], size["rows"][-1]
        found.append(
            f"- Time per atom and step at {large['n_atoms']:,} atoms: {large['us_per_atom']:.1f} µs, "
            f"{size['time_ratio_largest_to_smallest']:.2f} times that at {small['n_atoms']:,}; memory "
            f"{size['kb_per_atom']:.1f} kB an atom. `benchmarks/speed/scaling.py`"
        )
    for part, words in (("threads", "threads"), ("mpi", "MPI processes in LAMMPS")):
        if result := scaling.get(part):
            found.append(
                f"- Two {words} at {result['n_atoms']:,} atoms: {result['speedup_median']:.2f} times as fast as one "
                f"({statistics.median(result['ms_two']):.0f} ms a step). `benchmarks/speed/scaling.py`"
            )
    if screening := scaling.get("screening"):
        one, two = screening["per_second"]
        found.append(
            f"- Screening of structures of {screening['n_atoms']} atoms: {one:,.0f} a second one at a time, {two:,.0f} "
            "two at a time. `benchmarks/speed/scaling.py`"
        )
    if circuits := read("against_circuits"):
        energy = circuits["energies"]["times_slower_than_compiled"]
        found.append(
            f"- Against simulators of circuits ({circuits['n_qubits']} qubits, exact, one core): energies by one "
            f"circuit per atom take {energy['statevector_one_circuit_per_atom']:,.0f} (`StatevectorEstimator`) and "
            f"{energy['aer_one_circuit_per_atom']:,.0f} (Aer) times as long as the compiled forms. "
            "`benchmarks/speed/against_circuits.py`"
        )
    return found
