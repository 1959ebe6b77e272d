"""Render benchmarks/results/*.json into the table of the README and benchmarks/RESULTS.md.

    python benchmarks/render.py [--check]

`--check` writes nothing and fails where the README's table is not what the results say.
"""

import argparse
import json
import sys
from pathlib import Path

import render_accuracy
import render_default
import render_faults
import render_figures
import render_learning
import render_packaging
import render_quantum
import render_speed
import render_stability
import render_stresses
import render_uncertainty

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RESULTS_PAGE = HERE / "RESULTS.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
OLDER = [
    "",
    (
        "What follows was measured before registers, on models of one circuit of up to 6 qubits per element, and not "
        "yet again; circuits for the energy of a frame and the noise on a fake device are of today."
    ),
    "",
]
BACKENDS = {"aer": "Aer", "exact": "drawn outcomes of exact probabilities"}


def read(name):
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def quantum_training_lines():
    lines = []
    if training := read("estimator_training"):
        runs, exact = training["runs"], training["exact"]
        found = [r["force_mae_mev_per_ang"] for r in runs]
        lines.append(
            f"- Training the default model from random angles on {BACKENDS[training['backend']]} with "
            f"{training['shots']} shots a setting ({training['set']}, {training['n_train']} train / "
            f"{training['n_test']} test, {training['n_trainable']} parameters, {training['optimizer']}, "
            f"{training['steps']} steps of {runs[0]['circuits_per_step']} executions, {len(runs)} seeds): loss at most "
            f"{100 * (max(r['loss_ratio'] for r in runs) - 1):.1f} % above that of the exact training; force MAE "
            f"{min(found):.1f} - {max(found):.1f} meV/Å, the exact training {exact['force_mae_mev_per_ang']:.1f}; "
            f"{runs[0]['circuits']:,} executions and {runs[0]['shots']:,} shots in all. "
            "`benchmarks/quantum/estimator_training.py`"
        )
    if cost := read("gradient_cost"):
        wall = cost["energy_of_one_frame"]
        lines.append(
            f"- Gradient of all {cost['n_trainable']} parameters of the default model: {cost['parameter_sets']} "
            f"parameter sets in {cost['settings']} settings, {cost['executions']} executions, whatever the number of "
            f"frames; `ParamShiftEstimatorGradient` needs {cost['full_batch']['param_shift_circuits']:,} circuits for "
            f"{cost['full_batch']['frames']} frames of lips83 with forces. The derivative of one frame's energy, on "
            f"the same Aer estimator, is {wall['ratio']:.0f} times faster ({wall['seconds']:.2f} s against "
            f"{wall['param_shift_seconds']:.0f} s), equal to {wall['largest_relative_difference']:.0e}. "
            "`benchmarks/quantum/gradient_cost.py`"
        )
    return lines


def page():
    lines = ["# Results", "", "Rendered by `python benchmarks/render.py` from `benchmarks/results/`.", ""]
    lines += [*render_default.lines(), "", *render_accuracy.lines(), *OLDER]
    lines += [*render_stresses.lines(), *render_stability.lines(), *render_speed.lines()]
    lines += [
        *quantum_training_lines(),
        *render_quantum.summary_lines(),
        *render_uncertainty.lines(),
        *render_learning.lines(),
        *render_packaging.lines(),
        *render_faults.lines(),
        "",
    ]
    lines += [
        *render_accuracy.sections(),
        *render_stresses.sections(),
        *render_stability.sections(),
    ]
    lines += [*render_uncertainty.sections(), *render_learning.sections(), *render_quantum.sections()]
    lines += render_faults.sections()
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = README.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    table = "\n".join([*render_default.lines(), "", *render_quantum.readme_lines()])
    if not arguments.check:
        render_figures.draw()
    wanted = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if arguments.check:
        if wanted != text or RESULTS_PAGE.read_text() != page():
            sys.exit("the README or RESULTS.md does not show benchmarks/results; run python benchmarks/render.py")
        return
    README.write_text(wanted)
    RESULTS_PAGE.write_text(page())


if __name__ == "__main__":
    main()
