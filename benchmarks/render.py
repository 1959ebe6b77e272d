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
    for name in ("estimator_training", "estimator_training_tree"):
        if (training := read(name)) is None:
            continue
        runs, exact = training["runs"], training["exact"]["force_mae_mev_per_ang"]
        found = [r["force_mae_mev_per_ang"] for r in runs]
        worst = max(r["force_mae_ratio"] for r in runs)
        lines.append(
            f"- Training from random angles ({training['config']['circuit']['family']} on "
            f"{training['config']['circuit']['n_qubits']} qubits) on {BACKENDS[training['backend']]} with "
            f"{training['shots']} shots a circuit ({training['set']}, {training['n_train']} train / "
            f"{training['n_test']} test, {training['n_trainable']} parameters, "
            f"{training['optimizer'].capitalize()}, {training['steps']} steps of "
            f"{runs[0]['circuits_per_step']} circuits, {len(runs)} seeds): force MAE {min(found):.0f} - "
            f"{max(found):.0f} meV/Å, the exact training of the same circuit {exact:.0f}, so at most "
            f"{100 * (worst - 1):.0f} % above it; {max(r['seconds'] for r in runs):.0f} s a run. "
            "`benchmarks/quantum/estimator_training.py`"
        )
    if cost := read("gradient_cost"):
        full, wall = cost["full_batch"], cost["wall_time"]
        lines.append(
            f"- Circuits of one gradient over {full['frames']} frames of lips83 with forces: {full['circuits']}, and "
            f"{full['residual_circuits']} for its residuals (as many for one frame), where "
            f"`ParamShiftEstimatorGradient` needs {full['param_shift_circuits']:,} and "
            f"{full['param_shift_residual_circuits']:,}. The gradient of one frame, on the same Aer estimator, is "
            f"{wall['ratio']:.0f} times faster ({wall['seconds']:.1f} s against {wall['param_shift_seconds']:.0f} s), "
            f"equal to {wall['largest_relative_difference']:.0e}. `benchmarks/quantum/gradient_cost.py`"
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
