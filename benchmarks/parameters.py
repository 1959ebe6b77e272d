"""How errors fall with the number of trainable parameters: lips83, the last 200 frames held out.

    python benchmarks/parameters.py [--frames 150] [--parameters 25 50 99 200 300 500] [--smoke]

The frames to train on are drawn evenly from the first 600. Everything else is what `qff train` does by default; the
pool of channels is summed up once for all sizes. Results are written as they come. Models of more than 99 parameters
are beyond the package's claim and are shown for comparison.
"""

import argparse
import json
import time

import models
import numpy as np

from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare_model, measure
from qiskit_qff.structures.dataset import read_shipped
from qiskit_qff.structures.frame import species_of
from qiskit_qff.training.pipeline import resolve_config
from qiskit_qff.training.statistics import LossWeights, find_shortest
from qiskit_qff.training.trainer import fit, prepare, sum_pool

SIZES = (25, 50, 99, 200, 300, 500)
ERRORS = ("force_mae_mev_per_ang", "force_rmse_mev_per_ang", "energy_mae_mev_per_atom", "energy_rmse_mev_per_atom")
TINY = {"descriptor": {"n_radial": 2, "l_max": 1}}


def silent(*_):
    """Report nothing."""


def summed(frames, config):
    """Sums over the pool, and the settings that the data decide."""
    settings, _ = resolve_config(config, frames)
    species, weights = species_of(frames), LossWeights.of(settings)
    shortest = find_shortest(frames, species, settings.descriptor.r_cut, silent)
    return sum_pool(frames, species, shortest, settings, weights, silent), settings


def row(frames, test, settings, pool, count):
    """Errors, losses and seconds of one size."""
    begin = time.perf_counter()
    prepared = prepare(frames, settings.model_copy(update={"max_parameters": count}), pool=pool)
    middle = time.perf_counter()
    result = fit(prepared, rng=np.random.default_rng(settings.seed))
    seconds = {"seconds_to_prepare": middle - begin, "seconds_to_fit": time.perf_counter() - middle}
    sides = {"train": frames, "test": test}
    errors = {name: measure(compare_model(result.force_field, some)).to_dict() for name, some in sides.items()}
    about = {"n_trainable": result.force_field.n_trainable, "loss": result.loss, "linear_loss": result.linear_loss}
    return about | {name: {key: one[key] for key in ERRORS} for name, one in errors.items()} | seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=150, help="frames to train on")
    parser.add_argument("--parameters", type=int, nargs="+", default=SIZES, help="limits on trainable parameters")
    parser.add_argument("--smoke", action="store_true", help="a few shipped frames and small pools; nothing is written")
    arguments = parser.parse_args()
    if arguments.smoke:
        frames, test, sizes = read_shipped("li6ps5cl")[:6], read_shipped("li6ps5cl")[6:8], (12, 40)
    else:
        found, sizes = models.frames_of("lips83"), arguments.parameters
        if found is None:
            return
        frames = [found[0][k] for k in np.linspace(0, 599, arguments.frames).astype(int)]
        test = found[1]["last 200"]
    pool, settings = summed(frames, parse_config(TINY if arguments.smoke else {}, where="default"))
    record = {"set": "lips83", "n_train": len(frames), "n_test": len(test), "rows": []}
    if (earlier := models.recorded("parameters")) and not arguments.smoke:
        record["rows"] = earlier["rows"] if earlier["n_train"] == len(frames) else []
    for count in sizes:
        found = row(frames, test, settings, pool, count)
        print(json.dumps(found), flush=True)
        kept = [old for old in record["rows"] if old["n_trainable"] != found["n_trainable"]]
        record["rows"] = sorted([*kept, found], key=lambda one: one["n_trainable"])
        if not arguments.smoke:
            models.record("parameters", record)


if __name__ == "__main__":
    main()
