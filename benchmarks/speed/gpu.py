"""Time and error of the force field on a graphics processor, against the kernels on all processor cores.

    python benchmarks/speed/gpu.py [--data DIR] [--model model.json] [--device gpu] [--repeats 5] [--smoke]

`cells`: wall time of a step of moving supercells of lips83 (0.5 Å skin, the list built anew every tenth step, as in
scaling.py): numba on all cores, and the device in float64 and float32, in turns. `screening`: structures of 83 atoms a
second through `predict_many`, likewise. `errors`: the largest and the rms difference of forces, and that of energies,
from the kernels, on frames of lips83. Compilation is not counted; `compile_s` tells the first call of each size.

`--smoke` runs small cells of the shipped set with `--device cpu-jax` and writes nothing: it shows that all parts work,
not how fast they are.
"""

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path

import numba
import numpy as np

from qiskit_qff.model.accelerator.engine import on_device
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.trainer import train

RESULTS = Path(__file__).parents[1] / "results"
SIZES = ((4, 4, 4), (6, 7, 6), (10, 11, 11))
STEPS_PER_LIST = 10
WAYS = (("cpu", "float64"), ("device", "float64"), ("device", "float32"))


def name_of(way):
    return "cpu" if way[0] == "cpu" else f"device_{way[1]}"


def steps(calculator, atoms, shake, count):
    """Seconds a step of atoms that are shaken, with a list that is built at the first."""
    moving = atoms.copy()
    calculator.reset()
    calculator._verlet_list.forget()  # noqa: SLF001 (one build in so many steps, for all alike)
    begin = time.perf_counter()
    for _ in range(count):
        moving.positions += shake
        calculator.calculate(moving)
    return (time.perf_counter() - begin) / count


def in_turns(works, repeats):
    """Seconds of each by name, in turns; the first round compiles and is told apart."""
    first = {name: work() for name, work in works.items()}
    times = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(work())
    return first, times


def cells(fields, atoms, shapes, repeats, count):
    rows = []
    for shape in shapes:
        cell = atoms * shape
        shake = 0.01 * (np.random.default_rng(0).random(cell.positions.shape) - 0.5)
        calculators = {name: QFFCalculator(field, skin=0.5) for name, field in fields.items()}
        works = {name: partial(steps, own, cell, shake, count) for name, own in calculators.items()}
        first, times = in_turns(works, repeats)
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows.append({
            "n_atoms": len(cell),
            "ms_per_step": {name: 1e3 * value for name, value in medians.items()},
            "speedup": {name: medians["cpu"] / value for name, value in medians.items() if name != "cpu"},
            "compile_s": {name: count * (first[name] - medians[name]) for name in medians},
            "all_ms": {name: [1e3 * t for t in values] for name, values in times.items()},
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def screen(field, frames):
    """Seconds a structure."""
    begin = time.perf_counter()
    count = sum(1 for _ in field.predict_many(frames))
    return (time.perf_counter() - begin) / count


def screening(fields, frames, repeats):
    works = {name: partial(screen, field, frames) for name, field in fields.items()}
    _, times = in_turns(works, repeats)
    rates = {name: 1.0 / statistics.median(values) for name, values in times.items()}
    return {
        "n_atoms": frames[0].n_atoms,
        "n_frames": len(frames),
        "per_second": rates,
        "speedup": {name: rate / rates["cpu"] for name, rate in rates.items() if name != "cpu"},
        "all_ms": {name: [1e3 * t for t in values] for name, values in times.items()},
    }


def errors(fields, frames):
    """Difference from the kernels."""
    expected = list(fields["cpu"].predict_many(frames))
    found = {}
    for name, field in fields.items():
        if name == "cpu":
            continue
        predictions = list(field.predict_many(frames))
        forces = np.concatenate([p.forces - e.forces for p, e in zip(predictions, expected, strict=True)])
        energies = [(p.energy - e.energy) / len(e.energies) for p, e in zip(predictions, expected, strict=True)]
        found[name] = {
            "force_rms_uev_per_ang": 1e6 * float(np.sqrt(np.mean(forces**2))),
            "force_max_uev_per_ang": 1e6 * float(np.abs(forces).max()),
            "energy_max_uev_per_atom": 1e6 * float(np.abs(energies).max()),
        }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QFF_DATA", "../shared/data")))
    parser.add_argument("--model", type=Path, help="default: trained on the first 100 frames")
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", default="shared with other jobs", help="about the machine, kept with the results")
    parser.add_argument(
        "--smoke", action="store_true", help="small cells of the shipped set on cpu-jax; writes nothing"
    )
    arguments = parser.parse_args()
    if arguments.smoke and not _has_jax():
        print("jax is not installed: nothing to measure")
        return
    frames = read_shipped() if arguments.smoke else read_frames(arguments.data / "lips83.extxyz.xz")
    if arguments.model:
        field = ForceField.load(arguments.model)
    else:
        small = {"max_parameters": 40, "optimizer": {"restarts": 1}, "descriptor": {"l_max": 1}}
        chosen = frames[:5] if arguments.smoke else frames[:100]
        config = parse_config(small if arguments.smoke else {}, where="benchmark")
        field = train(chosen, config, rng=np.random.default_rng(0)).force_field
    device = "cpu-jax" if arguments.smoke else arguments.device
    ways = WAYS[:2] if arguments.smoke else WAYS
    fields = {name_of(way): on_device(field, "cpu" if way[0] == "cpu" else device, precision=way[1]) for way in ways}
    shapes = ((1, 1, 1),) if arguments.smoke else SIZES
    atoms, repeats = frames[0].to_atoms(), 1 if arguments.smoke else arguments.repeats
    result = {
        "device": _described(device),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {numba.get_num_threads()} threads, {arguments.note}",
        "n_trainable": field.n_trainable,
        "errors": errors(fields, frames[:3] if arguments.smoke else frames[:50]),
        "screening": screening(fields, frames[:3] if arguments.smoke else frames, repeats),
        "cells": cells(fields, atoms, shapes, repeats, 2 if arguments.smoke else STEPS_PER_LIST),
    }
    print(json.dumps(result, indent=1))
    if not arguments.smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"device_{device}.json").write_text(json.dumps(result, indent=1) + "\n")


def _described(device):
    import jax

    found = jax.devices("gpu" if device == "gpu" else "cpu")[0]
    return f"{found.device_kind} (JAX {jax.__version__})"


def _has_jax():
    from importlib.util import find_spec

    return find_spec("jax") is not None


if __name__ == "__main__":
    main()
