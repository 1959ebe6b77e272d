"""Labelled structures on the page: by what, how long it took, what failed, and how the labels are spread."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.model.metrics import MEV_PER_EV
from qiskit_qff.report.figures import PALETTE, STYLE, new_figure
from qiskit_qff.report.html import Panel, Section, Table
from qiskit_qff.report.run_part import RunPart
from qiskit_qff.report.structure_scene import ForceSet, structure_scene
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.reading import read_frames

_SETTINGS = ".settings.yaml"


def labelled_files(directory: Path) -> list[Path]:
    """Files that ``qff label`` wrote in a directory: those with their settings beside them."""
    names = [path.name.removesuffix(_SETTINGS) for path in sorted(directory.glob(f"*{_SETTINGS}"))]
    paths = [directory / f"{name}{suffix}" for name in names for suffix in (".extxyz", ".xyz")]
    return [path for path in paths if path.is_file()]


def read_labels(path: Path) -> RunPart:
    """Labels of one file.

    Args:
        path: what ``qff label`` wrote.

    Raises:
        DataError: if it can't be read.
    """
    frames = read_frames(path)
    failures_file = path.with_name(f"{path.stem}.failures.extxyz")
    failed = read_frames(failures_file, strict=False) if failures_file.is_file() else []
    settings = path.with_name(f"{path.stem}{_SETTINGS}").read_text(encoding="utf-8").rstrip()
    middle = frames[len(frames) // 2]
    scene = None
    if middle.forces is not None:
        sets = (ForceSet("ab initio", middle.forces),)
        scene = structure_scene(middle, sets, name="labelled", caption=f"Frame {middle.index} with its forces.")
    section = Section(
        title="Labels",
        tables=(Table("The labels", ("quantity", "value"), _facts(frames, failed)), *_failures(failed)),
        panels=_panels(frames),
        scenes=() if scene is None else (scene,),
        drawings=(("Settings", settings),),
    )
    return RunPart(kind="labels", title=f"Labels in {path.name}", sections=(section,))


def _facts(frames: Sequence[Frame], failed: Sequence[Frame]) -> tuple[tuple[str, str], ...]:
    """Numbers with units."""
    origins = Counter((str(f.tags.get("label_calculator", "?")), str(f.tags.get("label_level", "?"))) for f in frames)
    rows = [("frames labelled", str(len(frames))), ("frames failed", str(len(failed)))]
    rows += [(f"labelled by {name}", f"{level} ({count} frames)") for (name, level), count in origins.items()]
    versions = sorted({str(frame.tags["label_version"]) for frame in frames if "label_version" in frame.tags})
    if versions:
        rows.append(("program versions", ", ".join(versions)))
    seconds = [float(f.tags["label_wall_s"]) for f in frames if "label_wall_s" in f.tags]
    if seconds:
        rows.append(("time a frame", f"{np.mean(seconds):.3g} s, the longest {max(seconds):.3g} s"))
    energies = np.array([frame.energy / frame.n_atoms for frame in frames if frame.energy is not None])
    if energies.size:
        spread = MEV_PER_EV * (energies.max() - energies.min())
        rows.append(("energies", f"{energies.mean():.4f} eV/atom on average, {spread:.3g} meV/atom apart"))
    forces = [frame.forces for frame in frames if frame.forces is not None]
    if forces:
        every = np.concatenate(forces)
        rows.append(("force components", f"{MEV_PER_EV * np.sqrt(np.mean(every**2)):.4g} meV/Å, root mean square"))
    return tuple(rows)


def _failures(failed: Sequence[Frame]) -> tuple[Table, ...]:
    """What went wrong, by reason."""
    if not failed:
        return ()
    reasons = Counter(str(frame.tags.get("failure", "unknown")) for frame in failed)
    return (Table("Failures", ("reason", "frames"), tuple(reasons.most_common())),)


def _panels(frames: Sequence[Frame]) -> tuple[Panel, ...]:
    """How large the forces on each element are."""
    if not any(frame.forces is not None for frame in frames):
        return ()
    caption = "Sizes of the labelled forces on atoms, by element."
    alt = "Histogram of force sizes by element on a logarithmic scale."
    return (Panel("label_forces", caption, alt, force_size_histogram(frames)),)


@rc_context(STYLE)
def force_size_histogram(frames: Sequence[Frame]) -> Figure:
    """How often a force on an atom has which size, by element.

    Args:
        frames: those without forces are left out.
    """
    labelled = [(frame.numbers, frame.forces) for frame in frames if frame.forces is not None]
    numbers = np.concatenate([kinds for kinds, _ in labelled])
    sizes = np.linalg.norm(np.concatenate([forces for _, forces in labelled]), axis=1)
    bins = np.linspace(0.0, max(float(sizes.max()), 1e-6), 41).tolist()
    figure, axes = new_figure()
    for index, number in enumerate(np.unique(numbers)):
        colour = PALETTE[index % len(PALETTE)]
        chosen = sizes[numbers == number]
        axes.hist(chosen, bins=bins, histtype="step", linewidth=1.4, color=colour, label=chemical_symbols[number])
    axes.set(xlabel="size of the force (eV/Å)", ylabel="atoms", yscale="log")
    axes.legend(ncols=2)
    return figure
