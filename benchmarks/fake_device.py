"""Forces of the default models of several materials, measured on a fake device, against DFT and the exact model.

    python benchmarks/fake_device.py [--backend fake_kingston] [--shots 1024 4096 16384] [--repeats 5] [--smoke]

Each model is the one that `qff train DATA` makes with nothing else said; it is judged on frames that it was not given.
All registers are measured side by side on tiles of the device in n + 1 settings, with readout mitigation; the shipped
sets also with the other presets, and without noise of the device. Claims: the mean absolute error of forces against DFT
rises by at most 5 %, and noise is less than a tenth of it, both at 16,384 shots a setting. Noise is the mean absolute
deviation from the exact model; z is the root mean square of deviations in units of the reported standard errors, over
all forces of all repeats.
"""

import argparse
from operator import itemgetter

import models
import numpy as np
from standard_errors import repeatedly

from qiskit_qff import ForceField
from qiskit_qff.evaluators.backends import Settings
from qiskit_qff.evaluators.measured_operator import Provenance
from qiskit_qff.model.calibration import calibrate, calibration_errors

SETS = ("lips83", "limof5", "li6ps5cl", "uio66_0", "li2tp")
N_JUDGED = 20
"""Most held-out frames that are judged."""
COMPARED, PRESETS, PRESET_SHOTS = ("limof5", "li6ps5cl"), ("none", "zne", "pec"), 4096
"""Sets that are measured without the device's noise too, and with the other presets at so many shots: of more, error
cancellation makes more random circuits than a simulation should."""


def mean_error(predictions, references):
    """Mean absolute difference of forces in meV/Å."""
    return 1e3 * float(np.mean(np.abs(np.concatenate(predictions) - np.concatenate(references))))


def measured_row(field, frames, *, backend, preset, shots, repeats):
    """Deviations of a model measured several times."""
    labels, exact = [f.forces for f in frames], [field.predict(f) for f in frames]
    n_atoms = np.array([f.n_atoms for f in frames])
    forces = [p.forces for p in exact]
    found = {"noise_mev_per_ang": [], "rise_percent": [], "energy_noise_mev_per_atom": []}
    scores, own = [], mean_error(forces, labels)
    evaluator_for = repeatedly(Settings(backend, shots, preset), repeats)
    for _ in range(repeats):
        model, cost = calibrate(field, evaluator_for, provenance=Provenance(backend, shots, preset))
        predicted = [model.predict(f) for f in frames]
        energies = np.array([p.energy - e.energy for p, e in zip(predicted, exact, strict=True)]) / n_atoms
        found["noise_mev_per_ang"].append(mean_error([p.forces for p in predicted], forces))
        found["rise_percent"].append(100 * (mean_error([p.forces for p in predicted], labels) / own - 1))
        found["energy_noise_mev_per_atom"].append(1e3 * float(np.abs(energies - energies.mean()).mean()))
        errors = calibration_errors(model, frames)
        scores += [
            ((p.forces - e.forces) / s.force_std).ravel() for p, e, s in zip(predicted, exact, errors, strict=True)
        ]
    row = {"backend": backend, "mitigation": preset, "shots": shots, "force_mae_mev_per_ang": own}
    row |= {
        key: {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1)) if repeats > 1 else 0.0}
        for key, v in found.items()
    }
    return row | {
        "z": float(np.sqrt(np.mean(np.concatenate(scores) ** 2))),
        "circuits": cost.circuits,
        "executions": cost.shots,
    }


def cases(name, options):
    """Backend, preset and shots of each row of a set."""
    for shots in options.shots:
        yield options.backend, "readout", shots
        if name in COMPARED and not options.smoke:
            yield "exact", "none", shots
    if name in COMPARED and not options.smoke:
        for preset in PRESETS:
            yield options.backend, preset, PRESET_SHOTS


def merged(rows):
    """The rows, and those of the record that measured another set, backend, preset or number of shots."""
    kind = itemgetter("set", "backend", "mitigation", "shots")
    known = (models.recorded("fake_device") or {"rows": []})["rows"]
    found = {kind(row): row for row in [*known, *rows]}
    return sorted(found.values(), key=lambda row: (SETS.index(row["set"]), row["backend"], row["shots"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="fake_kingston")
    parser.add_argument("--shots", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--smoke", action="store_true", help="the shipped electrolyte once, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.sets, options.repeats, options.shots = ["li6ps5cl"], 1, [256]
    rows = []
    for name in options.sets:
        if (field := ForceField.load(models.KEPT) if options.smoke else models.model_of(name)) is None:
            continue
        frames = models.judged(name)[:N_JUDGED]
        for backend, preset, shots in cases(name, options):
            row = measured_row(field, frames, backend=backend, preset=preset, shots=shots, repeats=options.repeats)
            rows.append({"set": name, "n_trainable": field.n_trainable, "n_judged": len(frames)} | row)
            print(rows[-1], flush=True)
            if not options.smoke:
                models.record(
                    "fake_device", {"repeats": options.repeats, "rows": merged(rows)}, [row["set"] for row in rows]
                )


if __name__ == "__main__":
    main()
