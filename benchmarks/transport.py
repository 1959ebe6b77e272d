"""Lithium diffusivities of default models: several long runs per temperature, and an activation energy.

    python benchmarks/transport.py [--systems NAME ...] [--smoke]

| system | K | runs | step |
|---|---|---|---|
| lips83, 83 atoms | 520 | 5 of 200 ps | 1 fs |
| li6ps5cl, shipped, 104 atoms | 600, 700, 800 | 3 of 200 ps each | 1 fs |
| li2tp, 108 atoms | 600 | 2 of 100 ps | 0.5 fs |

Walls around the training data as in `qff md`, Bussi thermostat; each seed has its own velocities and starts from
another frame, as in `stability.py`. The first tenth of a run is left out, and the diffusivity is that of `qff analyse`:
kinisi's, or for lithium that stays in its cages an upper bound. lips83 is to be compared with its own ab initio
trajectory (`lips83_order.py`). Every finished run is recorded at once, and a run that was killed goes on from its
checkpoint.
"""

import argparse
import json

from models import WORK, frames_of, model_of, record, recorded
from stability import SMALL, SYSTEMS, starts_of

from qiskit_qff import train
from qiskit_qff.model.config import parse_config
from qiskit_qff.simulation.dynamics import MDSettings, run_dynamics
from qiskit_qff.simulation.trajectory import read_trajectory
from qiskit_qff.simulation.transport import transport

RUNS = {"lips83": ((520.0,), 5, 200.0), "li6ps5cl": ((600.0, 700.0, 800.0), 3, 200.0), "li2tp": ((600.0,), 2, 100.0)}
"""Temperatures in K, runs at each of them, and their length in ps."""
FRAMES = 2000
"""Frames written per run, at most one every 20 fs."""

KEYS = ("system", "temperature_k", "seed")
DIFFUSIVITY = tuple(f"diffusivity{kind}_cm2_per_s" for kind in ("", "_error", "_upper"))
MOVED = (*DIFFUSIVITY, "n_hops", "msd_exponent")


def rows():
    """What this version has recorded."""
    return (recorded("transport") or {"runs": []})["runs"]


def run_one(name, potential, start, *, temperature_k, seed, ps):
    """The diffusivity of one run."""
    timestep = SYSTEMS[name].timestep_fs
    steps = round(ps * 1e3 / timestep)
    interval = max(round(20.0 / timestep), steps // FRAMES)
    settings = MDSettings(temperature_k, steps, timestep, seed=seed, interval=interval, checkpoint_interval=5000)
    folder = WORK / "transport" / f"{name}-{temperature_k:g}K-{seed}-{ps:g}ps"
    summary = run_dynamics(start.to_atoms(), potential, settings, folder)
    moved = transport(read_trajectory(summary.trajectory, skip_ps=0.1 * ps), "Li")
    row = {"system": name, "temperature_k": temperature_k, "seed": seed, "ps": ps, "n_atoms": len(start.numbers)}
    row |= {key: moved[key] for key in MOVED}
    return row | {"mean_temperature_k": summary.temperature_mean_k}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--smoke", action="store_true", help="a short run of a small model, nothing recorded")
    given = parser.parse_args()
    for name in ["li6ps5cl"] if given.smoke else given.systems:
        temperatures, seeds, ps = ((600.0,), 1, 1.0) if given.smoke else RUNS[name]
        if (found := frames_of(name)) is None:
            continue
        small = parse_config(SMALL, where="benchmark")
        potential = (train(found[0][:10], small).force_field if given.smoke else model_of(name)).within_walls()
        starts = starts_of(SYSTEMS[name], found[0])
        for seed in range(seeds):
            for temperature in temperatures:
                if not given.smoke and (name, temperature, seed) in {tuple(row[key] for key in KEYS) for row in rows()}:
                    continue
                start = starts[(7 * seed) % len(starts)]
                row = run_one(name, potential, start, temperature_k=temperature, seed=seed, ps=ps)
                print(json.dumps(row), flush=True)
                if not given.smoke:  # read anew, so that several systems can run side by side
                    record("transport", {"runs": [*rows(), row]}, sorted({one["system"] for one in [*rows(), row]}))


if __name__ == "__main__":
    main()
