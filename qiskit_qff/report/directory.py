"""Any directory that ``qff`` wrote, recognised by its files, and several of them on one page."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qiskit_qff.durable import read_json
from qiskit_qff.errors import ConfigError
from qiskit_qff.learning.records import REASONS, RoundRecord
from qiskit_qff.model.metrics import MEV_PER_EV, Metrics
from qiskit_qff.report.device import DEVICE, calibration_part, device_part
from qiskit_qff.report.dynamics import analysis_part, md_part
from qiskit_qff.report.figures import INK, PALETTE, STYLE, plain_log_labels, save
from qiskit_qff.report.page import Panel, Part, Section, write_page
from qiskit_qff.report.record import BASELINES, EVALUATION, NOT_IN_TRAINING, Record, reading
from qiskit_qff.report.structure import MOST_ATOMS, structure_figure
from qiskit_qff.report.training import errors_section, example_sections, training_part
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

_SETTINGS = ".settings.yaml"
_NOISE = {
    "backend": "backend",
    "strategy": "strategy",
    "design": "states that M is measured by",
    "mitigation": "error mitigation",
    "dynamical_decoupling": "dynamical decoupling",
    "n_circuits": "circuits",
    "n_shots": "shots",
    "qpu_seconds": "processor time (s, estimated)",
    "energy_std_mev_per_atom": "standard error of energies (meV/atom)",
    "force_std_mev_per_ang": "standard error of forces (meV/Å)",
    "stress_std_mev_per_ang3": "standard error of stresses (meV/Å³)",
    "seed": "seed",
}


def read_run(directory: Path) -> list[Part]:
    """Everything that a directory holds, in the order of a page."""
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory. Name what qff train, md, analyse, label, ... wrote to.")
    found = [training_part(directory)]
    for name, (part, remedy) in _PARTS.items():
        if (path := directory / name).is_file():
            with reading(path, remedy=remedy):
                draw = part(read_json(path), directory)
            found.append(draw())  # outside: an error in a figure is no damage to the file
    found += [analysis_part(directory), calibration_part(directory)]
    found += [_labels_part(path) for path in _labelled_files(directory)]
    found += [md_part(directory), md_part(directory / "md")]  # such as the dynamics of qff demo
    parts = [part for part in found if part is not None]
    if not parts:
        raise ConfigError(
            f"{directory}: holds nothing that a report could show. Expected what qff train, learn, evaluate --out, "
            "baseline --out, calibrate, md, analyse or label wrote."
        )
    return parts


def write_report(directory: Path, page: Path, *, figures: Path | None = None) -> None:
    """The page of one directory, and its figures as PNG files in another if that is given."""
    parts = read_run(directory)
    write_page({directory.name: parts}, page)
    if figures is not None:
        figures.mkdir(exist_ok=True)
        for panel in (panel for part in parts for section in part.sections for panel in section.panels):
            save(panel.figure, figures / f"{panel.name}.png")


def _evaluation_part(told: Mapping[str, Any], directory: Path) -> Callable[[], Part]:
    """Errors on a labelled set, and what a backend did if one was used."""
    metrics = {"all": Metrics.from_dict(told)}
    if "unseen" in told:
        metrics[NOT_IN_TRAINING] = Metrics.from_dict(told["unseen"])
    return partial(_evaluation_page, told, metrics, directory)


def _evaluation_page(told: Mapping[str, Any], metrics: Mapping[str, Metrics], directory: Path) -> Part:
    """The same, drawn."""
    name, seen = str(told.get("data", "all")), told.get("n_frames_seen_in_training")
    noise = [(words, told[key]) for key, words in _NOISE.items() if told.get(key) is not None]
    record = Record.read(directory)
    missing = () if record is not None else ("No parity plots: the predictions (record.json) are gone.",)
    record = record or Record()
    sections = [errors_section(record.comparisons, metrics), *example_sections(record.example)]
    if noise:
        sections.insert(1, Section("Noise and shots", "facts.html", {"title": "Measurement", "facts": noise}))
    which, headline = list(metrics.items())[-1]
    words = "" if which == "all" else f", {which}"
    lead = [f"Evaluated on {metrics['all'].n_frames} frames of {name}."]
    if seen:
        lead.append(f"The model was trained on {seen} of them, so errors over all frames are too small.")
    made = ", ".join(f"{package} {version}" for package, version in record.environment.items())
    return Part(
        kind="evaluation",
        title=f"Evaluation on {name}",
        sections=tuple(sections),
        lead=tuple(lead),
        tiles=(
            (f"{headline.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE{words}"),
            (f"{headline.energy_mae_mev_per_atom:.2f} meV/atom", f"energy MAE{words}"),
        ),
        footer=f"Evaluated with {made}." if made else "",
        missing=missing,
    )


def _baselines_part(told: Mapping[str, Any], _directory: Path) -> Callable[[], Part]:
    """Classical models beside the quantum one."""
    rows = [
        (
            entry["description"] if entry["within_limit"] else f"{entry['description']} (beyond the limit)",
            entry["n_trainable"],
            entry["test"]["energy_mae_mev_per_atom"],
            entry["test"]["force_mae_mev_per_ang"],
            entry.get("quantum_over_this", {}).get("force_mae"),
        )
        for entry in told["models"].values()
    ]
    data = {
        "rows": rows,
        "limit": told["max_parameters"],
        "n_train": len(told["train_frames"]),
        "n_test": len(told["test_frames"]),
        "skipped": dict(told.get("skipped", {})),
    }
    section = Section("Baselines", "baselines.html", data)
    footer = f"Baselines: qiskit_qff {told['version']}; seed {told['seed']}."
    return partial(Part, "baselines", "Classical baselines", (section,), footer=footer)


def _learning_part(told: Mapping[str, Any], _directory: Path) -> Callable[[], Part]:
    """Rounds, dynamics and errors of active learning that came to its end."""
    rounds = tuple(RoundRecord.from_dict(record) for record in told["rounds"])
    held_out = [None if errors is None else Metrics.from_dict(errors) for errors in told["held_out"]]
    state = f"It ended because: {REASONS[told['reason']]}."
    labels = f"labels by {told['calculator']} ({told['level']})"
    return partial(learning_page, rounds, held_out, labels=labels, state=state)


_PARTS: dict[str, tuple[Callable[[Any, Path], Callable[[], Part]], str]] = {
    "learn.json": (_learning_part, "The same qff learn command writes it again."),
    EVALUATION: (_evaluation_part, "Evaluate again."),
    BASELINES: (_baselines_part, "Run qff baseline again."),
    DEVICE: (device_part, "Delete it to do without its figures."),
}
"""How the file of a verb is read, which gives what draws its part, and what to do about one that is damaged."""


def learning_page(
    rounds: Sequence[RoundRecord], held_out: Sequence[Metrics | None], *, labels: str, state: str
) -> Part:
    """Active learning, of a finished run or of one at work."""
    last = rounds[-1]
    known = [(k, errors) for k, errors in enumerate(held_out) if errors is not None]
    final = known[-1][1] if known else last.held_out
    tiles = [
        (str(len(rounds)), "rounds"),
        (str(last.n_labels), labels),
        (f"{last.shortest_ps:.3g} ps", "shortest run of the last round"),
    ]
    if final is not None:
        tiles.append((f"{final.force_mae_mev_per_ang:.0f} meV/Å", f"force MAE on {final.n_frames} frames held out"))
        tiles.append((f"{final.energy_mae_mev_per_atom:.2f} meV/atom", "energy MAE on them"))
    caption = (
        "Above: how long the runs of each round lasted before a grade passed its limit too far. Middle: the largest "
        "extrapolation grade, in units of its limit. Below: force errors on labels that the model has not seen."
    )
    panel = Panel("learning", caption, caption, learning_figure(rounds, held_out))
    sections = [Section("By round", "rounds.html", {"rounds": rounds}, (panel,))]
    if known:
        sections.append(Section("Frames held out", "held_out.html", {"known": known}))
    sections.append(Section("Dynamics", "learning_runs.html", {"rounds": rounds}))
    opening = (
        "Molecular dynamics with the model of each round finds structures outside its training data; the most "
        "informative ones are labelled, and the next model is trained on them."
    )
    return Part("active learning", "Active learning", tuple(sections), lead=(f"{opening} {state}",), tiles=tuple(tiles))


@rc_context(STYLE)
def learning_figure(rounds: Sequence[RoundRecord], held_out: Sequence[Metrics | None] = ()) -> Figure:
    """By round: time that the dynamics lasted, largest grade, force errors."""
    figure = Figure(figsize=(4.6, 7.0))
    above, middle, below = figure.subplots(3, 1, sharex=True)
    for index, temperature in enumerate(dict.fromkeys(run.temperature_k for record in rounds for run in record.runs)):
        points = [(k.round, run.time_ps) for k in rounds for run in k.runs if run.temperature_k == temperature]
        colour = PALETTE[index % len(PALETTE)]
        above.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, label=f"{temperature:g} K")
    above.axhline(rounds[0].runs[0].asked_ps, color=INK, linestyle="--", linewidth=1.0, label="asked for")
    above.set(ylabel="dynamics lasted\n(ps)", yscale="log")
    above.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), columnspacing=0.8, handletextpad=0.3)
    ratios = [min(record.largest_ratio, 1e3) for record in rounds]
    middle.plot([record.round for record in rounds], ratios, "o-", color=PALETTE[0])
    middle.axhline(1.0, color=INK, linestyle="--", linewidth=1.0)
    middle.set(ylabel="largest grade\n(its limit = 1)", yscale="log")
    plain_log_labels(above)
    plain_log_labels(middle)
    curves: dict[str, Sequence[Metrics | None]] = {
        "chosen frames, before training on them": [record.chosen for record in rounds],
        "drawn frames of the round": [record.drawn for record in rounds],
        "all frames held out": held_out,
    }
    for colour, (name, errors) in zip(PALETTE, curves.items(), strict=False):
        known = [(k, found.force_mae_mev_per_ang) for k, found in enumerate(errors) if found is not None]
        if known:
            below.plot(*zip(*known, strict=True), "o-", color=colour, label=name, markersize=4)
    below.set(xlabel="round", ylabel="force MAE\n(meV/Å)", ylim=(0.0, None))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower center")
    figure.align_ylabels()
    return figure


def _labelled_files(directory: Path) -> list[Path]:
    """Files that ``qff label`` wrote in a directory: those with their settings beside them."""
    names = [path.name.removesuffix(_SETTINGS) for path in sorted(directory.glob(f"*{_SETTINGS}"))]
    paths = [directory / f"{name}{suffix}" for name in names for suffix in (".extxyz", ".xyz")]
    return [path for path in paths if path.is_file()]


def _labels_part(path: Path) -> Part:
    """Labels of one file: by what, how long it took, what failed, how large they are."""
    frames = read_frames(path)
    failures_file = path.with_name(f"{path.stem}.failures.extxyz")
    failed = read_frames(failures_file, strict=False) if failures_file.is_file() else []
    data = {
        "facts": _label_facts(frames, failed),
        "failures": Counter(str(frame.tags.get("failure", "unknown")) for frame in failed).most_common(),
        "settings": path.with_name(f"{path.stem}{_SETTINGS}").read_text(encoding="utf-8").rstrip(),
    }
    middle = frames[len(frames) // 2]
    panels: tuple[Panel, ...] = ()
    if middle.forces is not None and middle.n_atoms <= MOST_ATOMS:
        caption = f"Frame {middle.index} with its forces, {middle.n_atoms} atoms."
        panels = (Panel("labelled", caption, caption, structure_figure(middle, {"ab initio": middle.forces})),)
    return Part("labels", f"Labels in {path.name}", (Section("Labels", "labels.html", data, panels),))


def _label_facts(frames: Sequence[Frame], failed: Sequence[Frame]) -> list[tuple[str, str]]:
    """Numbers of the labels with units."""
    origins = Counter((str(f.tags.get("label_calculator", "?")), str(f.tags.get("label_level", "?"))) for f in frames)
    rows = [("frames labelled", str(len(frames))), ("frames failed", str(len(failed)))]
    rows += [(f"labelled by {name}", f"{level} ({count} frames)") for (name, level), count in origins.items()]
    if versions := sorted({str(frame.tags["label_version"]) for frame in frames if "label_version" in frame.tags}):
        rows.append(("program versions", ", ".join(versions)))
    if seconds := [float(f.tags["label_wall_s"]) for f in frames if "label_wall_s" in f.tags]:
        rows.append(("time a frame", f"{np.mean(seconds):.3g} s, the longest {max(seconds):.3g} s"))
    energies = np.array([frame.energy / frame.n_atoms for frame in frames if frame.energy is not None])
    if energies.size:
        spread = MEV_PER_EV * np.ptp(energies)
        rows.append(("energies", f"{energies.mean():.4f} eV/atom on average, {spread:.3g} meV/atom apart"))
    if forces := [frame.forces for frame in frames if frame.forces is not None]:
        size = MEV_PER_EV * np.sqrt(np.mean(np.concatenate(forces) ** 2))
        rows.append(("force components", f"{size:.4g} meV/Å, root mean square"))
    return rows
