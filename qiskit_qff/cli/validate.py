"""``qff validate``: what a data set holds, what is wrong with it, and whether it can be trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.structures.validation import Defect

_SHOWN, _MOST_FORMULAS = 3, 10


def validate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Structure files, 'shipped' (Li-MOF-5) or 'li6ps5cl'."),
    ],
    *,
    every: Annotated[bool, typer.Option("--all", help="List every defect, not only the first of each kind.")] = False,
    json: JsonOption = False,
) -> None:
    """Check structures and labels; exit code 2 if they can't be read or can't be trained on."""
    from qiskit_qff.structures.dataset import read_frames
    from qiskit_qff.structures.validation import Defect, summarize, validate_frames
    from qiskit_qff.training.label_consistency import label_consistency

    output = Output(as_json=json)
    frames = read_frames(data, strict=False)
    defects, labels = validate_frames(frames), []
    if all(defect.severity == "warning" for defect in defects):
        labels = label_consistency(frames)
        for found in labels:
            if found.problem:
                defects.insert(0, Defect("error", "energy-force-mismatch", found.source, None, found.problem))
            if found.stress_problem:
                defects.append(Defect("warning", "stress-mismatch", found.source, None, found.stress_problem))
    summary = summarize(frames)
    advice = advise(summary)
    _tell_summary(summary, output)
    for line in advice:
        output.say(f"advice: {line}")
    for found in labels:
        told = found.unchecked and f"not checked: {found.unchecked}; see yourself that units and signs agree"
        told = told or f"{found.energy_factor:.2f} times what the forces predict (near 1 where units and signs agree)"
        output.say(f"energies of {found.source}, {found.n_frames} frames: {told}")
    _tell_defects(defects, output, shown=None if every else _SHOWN)
    n_errors = sum(defect.severity == "error" for defect in defects)
    verdict = f"{'not fit' if n_errors else 'fit'} for training"
    output.say(f"{verdict}: {_count(n_errors, 'error')}, {_count(len(defects) - n_errors, 'warning')}")
    output.finish(
        {
            "trainable": not n_errors,
            "n_errors": n_errors,
            "n_warnings": len(defects) - n_errors,
            "defects": defects,
            "advice": advice,
            "labels": labels,
            **summary,
        }
    )
    if n_errors:
        raise typer.Exit(2)


def advise(summary: dict[str, Any]) -> list[str]:
    """What the data suggests to do, where it is no defect."""
    advice = []
    if summary["group_tag"]:
        advice.append(
            f"the tag {summary['group_tag']!r} divides the frames into groups: 'qff train' holds out an equal share of "
            "each."
        )
    elif summary["is_time_ordered"]:
        advice.append(
            "successive frames resemble each other as in a trajectory: 'qff train' holds out the last ones, because a "
            "random split would flatter the test error."
        )
    if summary["lacking_bonds"]:
        where, bonds = next(iter(summary["lacking_bonds"].items()))
        advice.append(
            f"{len(summary['lacking_bonds'])} of {summary['n_frames']} frames lack bonds that most others have ({bonds}"
            f" in {where}; all of them with --json): something came apart there. Where the model is not meant for that,"
            " --framework whole trains without them."
        )
    return advice


def _tell_summary(summary: dict[str, Any], output: Output) -> None:
    """Print what the data set consists of."""
    for name, count in summary["files"].items():
        output.say(f"{name}: {_count(count, 'frame')}")
    ranked = list(summary["compositions"].items())
    rest = ranked[_MOST_FORMULAS:]
    others = [(f"{len(rest)} others", sum(count for _, count in rest))] if rest else []
    output.table("composition", ["formula", "frames"], [*ranked[:_MOST_FORMULAS], *others])
    told = ", ".join(f"{name} in {count} of {summary['n_frames']}" for name, count in summary["n_labelled"].items())
    output.say(f"labels: {told}")
    if summary["energy_std_mev_per_atom"] is not None and summary["force_std_mev_per_ang"] is not None:
        output.say(
            f"predicting the mean would err by {summary['energy_std_mev_per_atom']:.1f} meV/atom and "
            f"{summary['force_std_mev_per_ang']:.0f} meV/Å (rms)"
        )


def _tell_defects(defects: "list[Defect]", output: Output, *, shown: int | None) -> None:
    """Print the defects by kind, the first few of each."""
    by_code: dict[str, list[Defect]] = {}
    for defect in defects:
        by_code.setdefault(f"{defect.severity} {defect.code}", []).append(defect)
    for kind, alike in by_code.items():
        output.say(f"{kind}: {len(alike)}")
        for defect in alike[:shown]:
            output.say(f"  {defect}")
        if shown is not None and len(alike) > shown:
            output.say(f"  ... and {len(alike) - shown} more; --all lists them.")


def _count(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
