"""The part of the results that lists every split."""

from render_accuracy import ENERGY, ENERGY_RMSE, FORCE, FORCE_RMSE, QUANTUM, best_of, ratios, records

LOSS_NOTE = (
    "Energy ratio: over the best baseline by energy. Loss on the training frames, per frame: of the circuit, of the "
    "best linear model on the same channels, and of the best symmetric matrices on them (the bound)."
)


def sections():
    """A table a set."""
    lines = []
    for name, record in records().items():
        lines += [f"### {name}, split by split", ""]
        names = ["held out", "train", "test", "energy MAE", "RMSE", "force MAE", "RMSE"]
        names += ["best baseline, its force MAE", "force ratio", "energy ratio", "loss", "linear", "bound"]
        lines += [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        runs = record["entries"]
        for key, run in runs.items():
            q, best = run["models"][QUANTUM], best_of(run)
            two = [ratios([run], error)[0] for error in (FORCE, ENERGY)]
            own = " (required)" if run["named"] and record.get("target") else ""
            lines.append(
                f"| {key}{own} | {run['n_train']} | {run['n_test']} | {q[ENERGY]:.2f} | "
                f"{q[ENERGY_RMSE]:.2f} | {q[FORCE]:.1f} | {q[FORCE_RMSE]:.1f} | {best.replace('_', ' ')}, "
                f"{run['models'][best][FORCE]:.1f} | {two[0]:.3f} | {two[1]:.3f} | {q['loss']:.3f} | "
                f"{q['linear_loss']:.3f} | {q['bound']:.3f} |"
            )
        lines += ["", *contact_lines(runs), LOSS_NOTE, ""]
    return lines


def contact_lines(runs):
    """Where test frames hold atoms closer to each other than any training frame."""
    lines = []
    for key, run in runs.items():
        parts = [
            f"{pair} down to {c['test']:.2f} Å in {c['frames']} (training: "
            f"{'never below 3.5' if c['train'] is None else format(c['train'], '.2f')} Å)"
            for pair, c in run.get("new_contacts", {}).items()
            if c["frames"] >= 0.05 * run["n_test"]
        ]
        if parts:
            lines.append(f"- {key}: {'; '.join(parts)}")
    return ["Test frames with atoms closer than in any training frame:", "", *lines, ""] if lines else []
