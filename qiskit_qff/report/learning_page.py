"""The page of an active learning run: how long dynamics lasted, how far they went, how wrong new labels found it."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qiskit_qff import __version__
from qiskit_qff.learning.records import REASONS, LabelErrors, Learnt, RoundRecord
from qiskit_qff.report.figures import INK, PALETTE, STYLE
from qiskit_qff.report.html import Page, Panel, Section, Table


@rc_context(STYLE)
def learning_figure(rounds: Sequence[RoundRecord], held_out: Sequence[LabelErrors | None] = ()) -> Figure:
    """By round: time that the dynamics lasted, largest grade, force errors.

    Args:
        rounds: the rounds.
        held_out: errors of the model of each round, and of the last one, on all frames held out.
    """
    figure = Figure(figsize=(5.6, 6.6))
    above, middle, below = figure.subplots(3, 1, sharex=True)
    numbers = [record.round for record in rounds]
    for temperature in dict.fromkeys(run.temperature_k for record in rounds for run in record.runs):
        colour = PALETTE[list(dict.fromkeys(r.temperature_k for r in rounds[0].runs)).index(temperature) % len(PALETTE)]
        points = [(k.round, run.time_ps) for k in rounds for run in k.runs if run.temperature_k == temperature]
        above.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, label=f"{temperature:g} K")
    above.axhline(rounds[0].runs[0].asked_ps, color=INK, linestyle="--", linewidth=1.0, label="asked for")
    above.set(ylabel="dynamics lasted\n(ps)", yscale="log")
    above.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    middle.plot(numbers, [min(record.largest_ratio, 1e3) for record in rounds], "o-", color=PALETTE[0])
    middle.axhline(1.0, color=INK, linestyle="--", linewidth=1.0)
    middle.set(ylabel="largest grade\n(its limit = 1)", yscale="log")
    curves = {
        "chosen frames, before training on them": [record.chosen for record in rounds],
        "drawn frames of the round": [record.drawn for record in rounds],
        "all frames held out": list(held_out),
    }
    for colour, (name, errors) in zip(PALETTE, curves.items(), strict=False):
        known = [(k, found.force_mae_mev_per_ang) for k, found in enumerate(errors) if found is not None]
        if known:
            below.plot(*zip(*known, strict=True), "o-", color=colour, label=name, markersize=4)
    below.set(xlabel="round", ylabel="force MAE\n(meV/Å)", ylim=(0.0, None))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    if below.lines:
        below.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28))
    figure.align_ylabels()
    return figure


def learning_page(rounds: Sequence[RoundRecord], learnt: Learnt | None, *, level: str, calculator: str) -> Page:
    """The page, of a finished run or of one at work.

    Args:
        rounds: rounds that are over.
        learnt: the result; None while the run is at work.
        level: level of theory of the labels.
        calculator: who labelled.
    """
    last = rounds[-1]
    n_labels = last.n_labels if learnt is None else learnt.n_labels
    held_out = () if learnt is None else learnt.held_out
    final = held_out[-1] if held_out else last.held_out
    tiles = [
        (str(len(rounds)), "rounds"),
        (str(n_labels), f"labels by {calculator} ({level})"),
        (f"{last.shortest_ps:.3g} ps", "shortest run of the last round"),
    ]
    if final is not None:
        tiles.append((f"{final.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE on {final.n_frames} frames held out"))
        tiles.append((f"{final.energy_mae_mev_per_atom:.2f} meV/atom", "energy MAE on them"))
    opening = (
        "Molecular dynamics with the model of each round finds structures outside its training data; the most "
        "informative ones are labelled, and the next model is trained on them."
    )
    caption = (
        "Above: how long the runs of each round lasted before a grade passed its limit too far. Middle: the largest "
        "extrapolation grade, in units of its limit. Below: force errors on labels that the model has not seen."
    )
    panel = Panel("learning", caption, caption, learning_figure(rounds, held_out))
    state = "The run is at work." if learnt is None else f"It ended because: {REASONS[learnt.reason]}."
    return Page(
        title="Active learning",
        lead=(f"{opening} {state}",),
        tiles=tuple(tiles),
        sections=(
            Section(title="By round", tables=(_rounds_table(rounds),), panels=(panel,)),
            *((_held_out_section(learnt),) if learnt is not None and final is not None else ()),
            Section(title="Dynamics", tables=(_runs_table(rounds),), text=_explosions(rounds)),
        ),
        footer=f"qiskit_qff {__version__}",
    )


def _rounds_table(rounds: Sequence[RoundRecord]) -> Table:
    """One line a round."""
    header = (
        "round", "trained on", "channels", "shortest run (ps)", "largest grade / limit", "outside", "refused", "chosen",
        "held out", "failed", "set aside", "labels", "force MAE, chosen", "force MAE, drawn",
    )  # fmt: skip
    rows = [
        (
            r.round,
            r.n_train,
            "kept" if r.kept_channels else "new",
            r.shortest_ps,
            r.largest_ratio,
            r.n_candidates,
            r.n_refused,
            r.n_chosen,
            r.n_drawn,
            r.n_failed,
            r.n_set_aside,
            r.n_labels,
            _force(r.chosen),
            _force(r.drawn),
        )
        for r in rounds
    ]
    return Table("Rounds (errors in meV/Å, before training on the frames)", header, tuple(rows))


def _held_out_section(learnt: Learnt) -> Section:
    """All models on all frames held out."""
    found = [(k, errors) for k, errors in enumerate(learnt.held_out) if errors is not None]
    rows = tuple(
        (k, errors.energy_mae_mev_per_atom, errors.force_mae_mev_per_ang, errors.force_rmse_mev_per_ang)
        for k, errors in found
    )
    header = ("model of round", "energy MAE (meV/atom)", "force MAE (meV/Å)", "force RMSE (meV/Å)")
    origin = (
        f"The {found[0][1].n_frames} frames were given at the start, or drawn evenly from the dynamics of each round "
        "before any grade passed its limit; no model was trained on them. The last model is trained on all labels."
    )
    return Section(title="Frames held out", text=(origin,), tables=(Table("Every model on all of them", header, rows),))


def _runs_table(rounds: Sequence[RoundRecord]) -> Table:
    """One line a run."""
    words = {"done": "to its end", "outside": "left the training data", "exploded": "exploded"}
    rows = [
        (
            record.round,
            run.name,
            run.time_ps,
            run.first_outside_ps,
            100.0 * run.outside,
            run.largest_ratio,
            words[run.end],
        )
        for record in rounds
        for run in record.runs
    ]
    header = ("round", "run", "lasted (ps)", "first outside (ps)", "outside (%)", "largest grade / limit", "ended")
    return Table("Runs", header, tuple(rows))


def _explosions(rounds: Sequence[RoundRecord]) -> tuple[str, ...]:
    """What runs that exploded said."""
    told = [f"Round {k.round}, {run.name}: {run.message}" for k in rounds for run in k.runs if run.message]
    return tuple(told)


def _force(errors: LabelErrors | None) -> float | None:
    """The force error, rounded."""
    return None if errors is None else float(np.round(errors.force_mae_mev_per_ang, 1))
