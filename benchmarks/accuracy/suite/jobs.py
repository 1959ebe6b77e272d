"""The jobs of the suite: each fits some models to some frames and says how wrong they are on others.

Jobs are independent of each other and of their order; their seed is the number of their split or draw.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ase.data import chemical_symbols

from qiskit_qff.cli.baseline_run import NAMES
from qiskit_qff.errors import BudgetError
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.shipped import read_shipped
from suite.ablations import BASE, DEAR, VARIANTS, run_variant
from suite.data import (
    SHIPPED,
    TARGETS,
    aligned,
    leave_one_temperature_out,
    load,
    new_contacts,
    splits,
    spread,
)
from suite.models import ERRORS, LINEAR, QUANTUM, describe, errors, extensivity, fit_models
from suite.stresses import SETS as WITH_STRESSES
from suite.stresses import VOLUMES, run_scales, run_volumes

UNCERTAINTY = "uncertainty"
STRESSES = "stresses"
PARTS = ("splits", "temperature", "joint", UNCERTAINTY, STRESSES, "curves", "ablations")
FAMILY = ("lips83", "li7p3s11_melt", "li4p2s6_melt", "lgps50")
"""Sets of one chemistry: models are tried on each other's frames."""
THREE = FAMILY[:3]
"""Those that hold the same three elements."""
JOINT_FRAMES = 150
MANY, DEAR_SPLITS, DEAR_MODELS = 100, 2, ("mlp",)
"""The network, a third of all work on larger sets and never the best model there, is fitted on their first splits."""
FRAMES = {"lips83": (10, 20, 40, 100, 300), "limof5": (5, 10)}
"""Points of learning curves over frames; the last point, all frames, is the split's own entry."""
CURVE_SET, CURVE_FRAMES = "lips83", 80
PARAMETERS, QUBITS = (8, 12, 24, 36, 48, 72, 99), (1, 2, 3, 4, 5, 6)
ONE_START = {"optimizer": {"restarts": 1}}
"""Curves have many points; the first start, near the linear solution, is all but always the best."""
ABLATION_FRAMES, ABLATION_TESTS, ABLATION_SEEDS = 60, 50, 3


@dataclass(frozen=True)
class Job:
    """One entry of one file of results."""

    part: str
    file: str
    key: str
    arguments: tuple


def is_of_shipped_set(job):
    """Whether a shipped set goes into a job."""
    return job.part in ("temperature", UNCERTAINTY) or bool(set(SHIPPED) & set(job.arguments))


def all_jobs(sets, parts, count, folder):
    """All jobs of some parts, the named splits of all sets first.

    Args:
        sets: Names of sets that are present.
        parts: Which parts.
        count: Most splits of a set; uio66 has three to a grouping.
        folder: Where the sets lie.
    """
    by_set = []
    for name in sets:
        ways = splits(name, load(name, folder))[: count * (3 if name == "uio66" else 1)]
        by_set.append([Job("splits", f"splits_{name}", way.name, (name, k)) for k, way in enumerate(ways)])
    found = [job for row in zip_longest(*by_set) for job in row if job]
    if "limof5" in sets:
        names = [way.name for way in leave_one_temperature_out(load("limof5", folder))]
        found += [Job("temperature", "temperature", name, (k,)) for k, name in enumerate(names)]
    if set(THREE) <= set(sets):
        for test in THREE:
            pair = tuple(name for name in THREE if name != test)
            found.append(Job("joint", "joint_training", f"{' + '.join(pair)} to {test}", (pair, test)))
    found.append(Job(UNCERTAINTY, UNCERTAINTY, "all", ()))
    for name in [name for name in WITH_STRESSES if name in sets]:
        ways = splits(name, load(name, folder))[: min(count, WITH_STRESSES[name])]
        found += [Job(STRESSES, STRESSES, f"{name}, {way.name}", (name, k)) for k, way in enumerate(ways)]
    if "li6ps5cl" in sets:
        found.append(Job(STRESSES, STRESSES, VOLUMES, ("li6ps5cl", None)))
    found += _curve_jobs(sets, count)
    if CURVE_SET in sets:
        for k in range(min(count, ABLATION_SEEDS)):
            wanted = [v for v in VARIANTS if k == 0 or v not in DEAR]
            found += [Job("ablations", "ablations", f"{v}, seed {k}", (v, k)) for v in wanted]
    return [job for job in found if job.part in parts]


def _curve_jobs(sets, count):
    found = []
    for k in range(count):
        if CURVE_SET in sets:
            found += [Job("curves", f"curve_{axis}", f"seed {k}", (axis, k)) for axis in ("parameters", "qubits")]
        for name in [name for name in FRAMES if name in sets]:
            keys = [(n, f"{name}, {n} frames, seed {k}") for n in FRAMES[name]]
            found += [Job("curves", "curve_frames", key, ("frames", k, name, n)) for n, key in keys]
    return found


def run(job, folder, settings=None, names=NAMES):
    """The entry of a job.

    Args:
        job: Which one.
        folder: Where the sets lie.
        settings: Changes of the default configuration.
        names: Which baselines.
    """
    begin, work = time.perf_counter(), time.process_time()
    verbs = {
        "splits": run_split,
        "temperature": run_temperature,
        "joint": run_joint,
        "ablations": run_ablation,
        UNCERTAINTY: run_uncertainty,
        STRESSES: run_stresses,
    }
    verb = verbs.get(job.part, run_frames if "frames" in job.arguments else run_sizes)
    entry = verb(folder, settings or {}, names, *job.arguments)
    spent = {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - work}
    return entry | {name: round(value, 1) for name, value in spent.items()}


def run_split(folder, settings, names, name, k):
    """All models on one split; those of the first split also on supercells and on other sets."""
    frames, config = load(name, folder), parse_config(settings, where=name)
    way = splits(name, frames)[k]
    train, test = [frames[i] for i in way.train], [frames[i] for i in way.test]
    if len(train) > MANY and k >= DEAR_SPLITS:
        names = [one for one in names if one not in DEAR_MODELS]
    models = fit_models(train, config, names, seed=k)
    entry = {"words": way.words, "named": way.named, "n_train": len(train), "n_test": len(test), "seed": k}
    entry["models"] = {m.name: describe(m) | errors(m, test, set_name=name) for m in models}
    entry["quantum_over_best"] = over_best(entry["models"])
    entry["new_contacts"] = new_contacts(train, test)
    if k == 0:
        entry["extensivity"] = {m.name: extensivity(m, test[0]) for m in models}
        entry["transfer"] = _transfers(name, set(elements(train)), models, folder)
    return entry


def elements(frames):
    """Chemical symbols of some frames."""
    return sorted({chemical_symbols[z] for f in frames for z in set(f.numbers.tolist())})


def _transfers(name, known, models, folder):
    """Errors on the test frames of other sets, energies up to one constant."""
    found = {}
    for other in FAMILY if name in FAMILY else ():
        frames = load(other, folder)
        if other == name or frames is None or not set(elements(frames[:1])) <= known:
            continue
        test = [frames[i] for i in splits(other, frames)[0].test]
        found[other] = {m.name: errors(m, test, shift_energy=True) for m in models}
    return found


def run_stresses(folder, settings, _names, name, k):
    """The quantum model with stresses fitted or not, on one split, or at other volumes where none is named."""
    frames = load(name, folder)
    if k is None:
        return {"set": VOLUMES} | run_volumes(frames, read_shipped(VOLUMES), settings)
    return {"set": name} | run_scales(frames, splits(name, frames)[k], settings, k)


def run_temperature(folder, settings, names, k):
    """Trained at all temperatures but one."""
    frames, config = load("limof5", folder), parse_config(settings, where="limof5")
    way = leave_one_temperature_out(frames)[k]
    train, test = [frames[i] for i in way.train], [frames[i] for i in way.test]
    models = fit_models(train, config, names, seed=k)
    entry = {"words": way.words, "n_train": len(train), "n_test": len(test), "seed": k}
    return entry | {"models": {m.name: describe(m) | errors(m, test, set_name="limof5") for m in models}}


def run_joint(folder, settings, names, pair, test_name):
    """Trained on two compositions, tested on a third."""
    train = []
    for name in pair:
        frames = load(name, folder)
        train += aligned(spread([frames[i] for i in splits(name, frames)[0].train], JOINT_FRAMES))
    others = load(test_name, folder)
    test = [others[i] for i in splits(test_name, others)[0].test]
    models = fit_models(train, parse_config(settings, where=test_name), names, seed=0, noiseless=False)
    entry = {"n_train": len(train), "n_test": len(test), "seed": 0}
    return entry | {"models": {m.name: describe(m) | errors(m, test, shift_energy=True) for m in models}}


def run_frames(folder, settings, _names, _axis, k, name, count):
    """A point of a learning curve: some of a split's training frames, all of its test frames."""
    frames = load(name, folder)
    way = splits(name, frames)[k]
    train, test = spread([frames[i] for i in way.train], count), [frames[i] for i in way.test]
    return {"set": name, "split": way.name} | _point(train, test, settings, k)


def run_sizes(folder, settings, _names, axis, k):
    """Errors over the limit on parameters, or over the size of registers, on a split's frames."""
    frames = load(CURVE_SET, folder)
    way = splits(CURVE_SET, frames)[k]
    train, test = spread([frames[i] for i in way.train], CURVE_FRAMES), [frames[i] for i in way.test]
    points = {}
    for value in PARAMETERS if axis == "parameters" else QUBITS:
        own = {"max_parameters": value} if axis == "parameters" else {"circuit": {"n_qubits": value}}
        points[str(value)] = _point(train, test, settings | own, k)
    return {"set": CURVE_SET, "split": way.name, "points": points}


def _point(train, test, settings, seed):
    """Errors of the quantum model and the linear ones."""
    try:
        config = parse_config(ONE_START | settings, where="curve")
        models = fit_models(train, config, LINEAR, seed=seed, noiseless=False)
    except BudgetError as error:
        return {"impossible": str(error)}
    return {
        "n_train": len(train),
        "n_test": len(test),
        "models": {m.name: describe(m) | errors(m, test) for m in models},
    }


def run_ablation(folder, settings, _names, variant, k):
    """One variant of the circuit, its training or its labels."""
    frames = load(CURVE_SET, folder)
    way = splits(CURVE_SET, frames)[k]
    train = spread([frames[i] for i in way.train], ABLATION_FRAMES)
    test = spread([frames[i] for i in way.test], ABLATION_TESTS)
    words, found = run_variant(variant, BASE | settings, train, test, k)
    return {"words": words, "variant": variant, "n_train": len(train), "n_test": len(test), "seed": k} | found


def run_uncertainty(folder, _settings, _names):
    """Run the script beside this folder, which writes its own result."""
    script = Path(__file__).parents[1] / "uncertainty.py"
    subprocess.run([sys.executable, str(script), "--data", folder], check=True, stdout=subprocess.DEVNULL)
    return {}


def about(job):
    """What a file of results says of all its entries."""
    if job.part == "splits":
        return {"set": job.arguments[0], "target": TARGETS.get(job.arguments[0])}
    return {"set": CURVE_SET} if job.part == "ablations" else {}


def headline(entry):
    """An entry in a few words."""
    models = entry.get("models", {})
    if "volumes" in entry:
        return "; ".join(
            f"{scale}: {', '.join('{1:+.2f} for {0:+.2f} GPa'.format(*one['mean_stress_gpa']) for one in found)}"
            for scale, found in entry["volumes"].items()
        )
    if "scales" in entry:
        return ", ".join(
            f"{scale}: {found['force_mae_mev_per_ang']:.1f} meV/Å, {found['energy_mae_mev_per_atom']:.2f} meV/atom, "
            f"{found['stress_mae_mev_per_ang3']:.2f} meV/Å³"
            for scale, found in entry["scales"].items()
        )
    if QUANTUM not in models:
        mae = entry.get("force_mae_mev_per_ang")
        return "" if mae is None else f"{mae:.1f} meV/Å, {entry['energy_mae_mev_per_atom']:.2f} meV/atom"
    quantum, (best, ratio) = models[QUANTUM], over_best(models)["force_mae_mev_per_ang"]
    of_best = f"{ratio:.3f} of {best}" if best else "no baseline"
    return f"{quantum['force_mae_mev_per_ang']:.1f} meV/Å, {quantum['energy_mae_mev_per_atom']:.2f} meV/atom, {of_best}"


def over_best(models):
    """For each error the best baseline within the limit on parameters, and the quantum model's error over its."""
    fair = [name for name, m in models.items() if not name.startswith(QUANTUM) and m.get("within_limit")]
    if not fair:
        return dict.fromkeys(ERRORS, (None, None))
    best = {key: min(fair, key=lambda name, key=key: models[name][key]) for key in ERRORS}
    return {key: (name, models[QUANTUM][key] / models[name][key]) for key, name in best.items()}
