"""``qff validate``: what a data set holds, what is wrong with it, and whether it can be trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.options import JsonOption
from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.structures.defects import DataSummary, Defect, ValidationReport

_SHOWN = 3


def validate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="Structure files, 'shipped' (Li-MOF-5) or 'li6ps5cl'."),
    ],
    *,
    every: Annotated[bool, typer.Option("--all", help="List every defect, not only the first of each kind.")] = False,
    json: JsonOption = False,
) -> None:
    """Check structures and labels; exit code 1 if they can't be trained on, 2 if they can't be read."""
    from qiskit_qff.structures.reading import read_frames
    from qiskit_qff.structures.shipped import seen_path
    from qiskit_qff.structures.validation import validate_frames

    output = Output(as_json=json)
    paths = [seen_path(path) for path in data]
    report = validate_frames(read_frames(paths, strict=False))
    advice = advise(report.summary)
    _tell_summary(report.summary, output)
    for line in advice:
        output.say(f"advice: {line}")
    _tell_defects(report, output, shown=None if every else _SHOWN)
    output.finish(
        {
            "trainable": report.is_trainable,
            "n_errors": len(report.errors),
            "n_warnings": len(report.warnings),
            "defects": report.defects,
            "advice": advice,
            **_plain_summary(report.summary),
        }
    )
    _set_exit_code(report)


def _set_exit_code(report: "ValidationReport") -> None:
    """Leave with exit code 1 if the data can't be trained on.

    Raises:
        typer.Exit: then.
    """
    if not report.is_trainable:
        raise typer.Exit(1)


def advise(summary: "DataSummary") -> list[str]:
    """What the data suggests to do, where it is no defect."""
    from qiskit_qff.structures.summary import group_tags

    advice = []
    if summary.is_time_ordered:
        advice.append(
            "successive frames resemble each other as in a trajectory: a random split would flatter the test error. "
            "Hold out a block (--split block)."
        )
    advice += [
        f"the tag {tag!r} tells {count} groups apart: to hold out an equal share of each, "
        f"--split balanced --group {tag}."
        for tag, count in group_tags(summary).items()
    ]
    if summary.lacking_bonds:
        where, bonds = next(iter(summary.lacking_bonds.items()))
        advice.append(
            f"{len(summary.lacking_bonds)} of {summary.n_frames} frames lack bonds that most others have ({bonds} in "
            f"{where}; all of them with --json): something came apart there. Where the model is not meant for that, "
            "--framework whole trains without them."
        )
    if summary.energy_force_ratio is None and summary.n_with_energy and summary.n_with_forces:
        advice.append(
            "no two frames are similar enough to test energies against forces; check yourself that units and "
            "signs agree (eV, eV/Å, forces = -gradient)."
        )
    return advice


def _plain_summary(summary: "DataSummary") -> dict[str, Any]:
    """The summary's fields, for the JSON object."""
    from dataclasses import asdict

    return asdict(summary)


def _tell_summary(summary: "DataSummary", output: Output) -> None:
    """Print what the data set consists of."""
    for name, count in summary.files.items():
        output.say(f"{name}: {_count(count, 'frame')}")
    output.table("composition", ["formula", "frames"], _most(summary.compositions))
    kinds = ", ".join(f"{kind} ({count})" for kind, count in summary.periodicity.items())
    output.say(f"elements: {', '.join(summary.elements)}; periodic along a, b, c: {kinds}")
    labels = {"energy": summary.n_with_energy, "forces": summary.n_with_forces, "stress": summary.n_with_stress}
    told = ", ".join(f"{name} in {count} of {summary.n_frames}" for name, count in labels.items())
    output.say(f"labels: {told}")
    ranges = {
        "atoms": summary.atoms,
        "energy, eV/atom": summary.energy_ev_per_atom,
        "force, eV/Å": summary.force_ev_per_ang,
        "volume, Å³/atom": summary.volume_ang3_per_atom,
        "pressure, GPa": summary.pressure_gpa,
    }
    rows = [
        [name, _digits(found.low), _digits(found.middle), _digits(found.high)]
        for name, found in ranges.items()
        if found is not None
    ]
    output.table("ranges", ["quantity", "lowest", "median", "highest"], rows)
    if summary.energy_std_mev_per_atom is not None and summary.force_std_mev_per_ang is not None:
        output.say(
            f"predicting the mean would err by {summary.energy_std_mev_per_atom:.1f} meV/atom and "
            f"{summary.force_std_mev_per_ang:.0f} meV/Å (rms)"
        )
    pairs = [f"{pair} {distance:.2f}" for pair, distance in summary.shortest_distances_ang.items()]
    output.say(f"shortest distances, Å: {', '.join(pairs) or 'no bonds found'}")
    if summary.energy_force_ratio is not None:
        output.say(
            f"energy differences over the work of the forces, {summary.n_similar_pairs} pairs of similar frames: "
            f"{summary.energy_force_ratio:.4f} (1 where units and signs agree)"
        )


def _tell_defects(report: "ValidationReport", output: Output, *, shown: int | None) -> None:
    """Print the defects by kind, the first few of each, and the verdict."""
    by_code: dict[str, list[Defect]] = {}
    for defect in report.defects:
        by_code.setdefault(f"{defect.severity} {defect.code}", []).append(defect)
    for kind, defects in by_code.items():
        output.say(f"{kind}: {len(defects)}")
        for defect in defects[:shown]:
            output.say(f"  {defect}")
        if shown is not None and len(defects) > shown:
            output.say(f"  ... and {len(defects) - shown} more; --all lists them.")
    found = f"{_count(len(report.errors), 'error')}, {_count(len(report.warnings), 'warning')}"
    output.say(f"{'fit for training' if report.is_trainable else 'not fit for training'}: {found}")


def _most(counts: Any, limit: int = 10) -> list[list[object]]:
    """The most frequent entries, and how many more there are."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    rows: list[list[object]] = [[name, count] for name, count in ranked[:limit]]
    if len(ranked) > limit:
        rows.append([f"{len(ranked) - limit} others", sum(count for _, count in ranked[limit:])])
    return rows


def _digits(value: float) -> str:
    """Number with enough digits to tell small from large, and no more."""
    return f"{value:.0f}" if value == int(value) else f"{value:.3f}"


def _count(number: int, noun: str) -> str:
    """The number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
