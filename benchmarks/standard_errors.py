"""Whether the standard errors that a calibration reports are the real ones.

    python benchmarks/standard_errors.py [--backends aer fake_kingston] [--repetitions 60] [--smoke]

Small models of the shipped set, one of trees and one of `efficient_su2(3, reps=2)`, are calibrated many times. `spread`
is the standard deviation over these calibrations in units of the reported errors, claimed to be 1 within 10 %, and
`bias` the error of the mean in the same units: the noise of the device, which more shots do not lower. They are given
for energies and forces, and for `entries`: the changes of all M along the independent errors that are reported of them.
These are thousands over registers, entries and repetitions, so that they tell the spread to a percent.
"""

import argparse
import itertools
import json
from dataclasses import replace

import models
import numpy as np

from qiskit_qff import train
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.evaluators.operator import operator_errors
from qiskit_qff.evaluators.protocol import Evaluation
from qiskit_qff.model.calibration import calibrate, calibration_errors
from qiskit_qff.model.config import parse_config
from qiskit_qff.structures.dataset import read_shipped

SHOTS = 400
CIRCUITS = {
    "ry_tree": {},
    "efficient_su2": {"family": "efficient_su2", "n_qubits": 3, "layers": 2, "readout": ["III", "IIZ", "IZI", "ZII"]},
}


def measured(field, evaluator_for, shots):
    """The model with measured operators, and what that cost."""
    return calibrate(field, evaluator_for, provenance=Provenance("", shots))


class Repeated:
    """All repetitions of a measurement in one job, because a job of Aer costs far more than its circuits."""

    def __init__(self, evaluator, repetitions):
        self.evaluator, self.repetitions, self.answers = evaluator, repetitions, None

    def evaluate(self, requests, *, shots=None):
        """The next repetition of the answers."""
        if self.answers is None:
            many = [replace(one, parameters=np.tile(one.parameters, (self.repetitions, 1))) for one in requests]
            results = self.evaluator.evaluate(many, shots=shots)
            cut = [
                zip(np.split(one.values, self.repetitions), np.split(one.covariances, self.repetitions), strict=True)
                for one in results
            ]
            self.answers = iter(zip(*cut, strict=True))
        return [Evaluation(*one) for one in next(self.answers)]

    def cost(self, requests, *, shots=None):
        """Of one repetition."""
        return self.evaluator.cost(requests, shots=shots)


def repeatedly(settings, repetitions):
    """What makes the evaluator of repeated calibrations; its shots are drawn with seed 0."""
    made = []

    def evaluator_for(sizes):
        if not made:
            evaluator = build_evaluator(settings, sizes, rng=np.random.default_rng(0))
            made.append(Repeated(evaluator, repetitions))
        return made[0]

    return evaluator_for


def entry_scores(exact, measured):
    """Changes of the M of all registers along their independent errors, in units of these; none is zero."""
    found = []
    for key, register in measured.registers.items():
        operator = register.measured
        errors = operator_errors(register.bound_program(), operator).reshape(len(operator.variances), -1)
        errors = errors[operator.variances > 1e-12 * operator.variances.max()]
        change = operator.matrix - exact.registers[key].circuit_matrix()
        change[register.ansatz.n_amplitudes :] = change[:, register.ansatz.n_amplitudes :] = 0.0
        found.append(np.linalg.lstsq(errors.T, change.ravel(), rcond=None)[0])
    return np.concatenate(found)


def standard_errors(backend, repetitions, shots, family="ry_tree"):
    """Spread and bias of energies and forces over repeated calibrations, in units of their reported errors."""
    shipped = read_shipped()
    order = np.random.default_rng(0).permutation(len(shipped))
    frames = [shipped[k] for k in order]
    config = {"data": {"split": "none"}, "max_parameters": 120 if CIRCUITS[family] else 30}
    config = parse_config(config | {"circuit": CIRCUITS[family]}, where="benchmark")
    field, test = train(frames[5:25], config).force_field, frames[:1]
    evaluator_for = repeatedly(Settings(backend, shots), repetitions)
    exact, found, stds, scores = field.predict(test[0]), [], [], []
    for _ in range(repetitions):
        model, _ = measured(field, evaluator_for, shots)
        found.append(model.predict(test[0]))
        stds += calibration_errors(model, test[:1])
        scores.append(entry_scores(field, model))
    row = {
        "backend": backend,
        "family": family,
        "repetitions": repetitions,
        "shots": shots,
        "n_registers": len(field.registers),
    }
    for name, true in (("energy", exact.energy), ("force", exact.forces)):
        values = np.array([getattr(one, "forces" if name == "force" else name) for one in found])
        errors = np.array([getattr(one, f"{name}_std") for one in stds])
        row[name] = {
            "spread": float(np.sqrt(np.mean(np.var(values, axis=0, ddof=1) / np.mean(errors**2, axis=0)))),
            "bias": float(np.sqrt(np.mean((values.mean(axis=0) - true) ** 2 / np.mean(errors**2, axis=0)))),
            "std_error": float(np.sqrt(np.mean(errors**2))),
        }
    spread, count = np.sqrt(np.mean(np.var(scores, axis=0, ddof=1))), np.size(scores) - len(scores[0])
    bias = float(np.sqrt(np.mean(np.mean(scores, axis=0) ** 2)))
    row["entries"] = {"spread": float(spread), "of_spread": float(spread / np.sqrt(2 * count)), "bias": bias}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["aer", "fake_kingston"])
    parser.add_argument("--repetitions", type=int, default=60)
    parser.add_argument("--smoke", action="store_true", help="a few repetitions on Aer, nothing written")
    given = parser.parse_args()
    if given.smoke:
        given.backends, given.repetitions = ["aer"], 20
    rows = []
    for backend, family in itertools.product(given.backends, ["ry_tree"] if given.smoke else CIRCUITS):
        rows.append(standard_errors(backend, given.repetitions, SHOTS, family))
        print(json.dumps(rows[-1]), flush=True)
        if not given.smoke:
            models.record("standard_errors", {"rows": rows})


if __name__ == "__main__":
    main()
