"""A whole training run: read, split, settle what the data decide, fit, errors on held-out frames, uncertainty scaling.

:func:`train` is what ``qff train`` calls, so Python and the command line give the same model to the last digit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.model.config import (
    DataConfig,
    ResolvedConfig,
    ResolvedData,
    ResolvedDescriptor,
    TrainConfig,
    with_absolute_paths,
)
from qiskit_qff.model.force_field import SEEN_FRAMES, ForceField
from qiskit_qff.model.metrics import Comparison, Metrics, compare_model, cross_checked_coverage, deviations_of, measure
from qiskit_qff.structures.dataset import (
    GROUP_TAGS,
    Split,
    balanced_split,
    block_split,
    group_tag,
    is_time_ordered,
    near_copies,
    random_split,
    read_frames,
    tag_groups,
    whole_frames,
)
from qiskit_qff.structures.frame import Frame, frame_hash, species_of
from qiskit_qff.structures.validation import ensure_trainable
from qiskit_qff.training.label_consistency import check_label_consistency
from qiskit_qff.training.statistics import LossWeights, Progress, check_stresses, silent
from qiskit_qff.training.trainer import MAX_POOL, TrainingResult, fit, fit_pool, prepare

if TYPE_CHECKING:
    from ase import Atoms

    from qiskit_qff.training.measured.run import BackendRun, MeasuredTraining

Data: TypeAlias = "str | Path | Frame | Atoms | Sequence[Frame | Atoms | str | Path]"
"""A data file, the name of a shipped set, several of them, or frames."""

ATOMS_PER_ELEMENT = 1_800
"""Training atoms per element, on average, from which the longer cutoff is the default. On validation frames from inside
the training parts it has 5 % smaller force errors on LiPS (3,300 atoms per element) and Li10GeP2S12 (1,950), 2 % on
molten Li7P3S11, but 13 % larger ones on 10 frames of UiO-66, 5 to 11 % on Li-MOF-5 (up to 1,120)."""
CUTOFF, LONG_CUTOFF = 5.0, 6.0
"""Default cutoff radii in Å, with few and with many training atoms."""
N_RADIAL, LONG_N_RADIAL = 5, 7
"""Three-body radial functions that go with them."""
PRODUCT_ATOMS = 1_000
"""Training atoms from which products of channels are the default."""
PRODUCTS = 2
"""Rounds of products then."""

Reasons = dict[str, str]
"""Why a setting got its value, by dotted name such as ``descriptor.r_cut``."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The frames of a run, divided, and the settings that go with them."""

    config: ResolvedConfig
    """All settings, decided."""
    reasons: Reasons
    """Why settings that the configuration left open got their values, by dotted name."""
    frames: list[Frame]
    """All frames of the data set."""
    split: Split
    """Which of them are trained on and which are held out."""
    n_broken: int = 0
    """Frames left out because their framework is broken; see ``data.framework``."""

    @property
    def training(self) -> list[Frame]:
        """Frames to train on."""
        return [self.frames[index] for index in self.split.train]

    @property
    def held_out(self) -> list[Frame]:
        """Frames held out."""
        return [self.frames[index] for index in self.split.test]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model with its errors on the frames it saw and on those it did not."""

    data: TrainingData
    """Frames, split and settings."""
    result: TrainingResult
    """The force field and how the fit went."""
    comparisons: dict[str, Comparison]
    """Labels and predictions of ``train`` and, unless nothing was held out, ``test``."""
    seconds: float
    """Wall time of reading and fitting in s."""
    metrics: dict[str, Metrics] = field(default_factory=dict)
    """Errors by the same names, and as ``linear_test`` those of the linear model on the same channels, held out."""
    measured: MeasuredTraining | None = None
    """How training on a backend went; None where losses were computed."""
    coverage: dict[str, Any] | None = None
    """How far uncertainties can be trusted; None where nothing was held out."""

    @property
    def force_field(self) -> ForceField:
        """The model."""
        return self.result.force_field

    @property
    def split(self) -> Split:
        """Which frames were trained on."""
        return self.data.split


def read_training_data(
    data: Data | None = None, config: TrainConfig | None = None, *, rng: np.random.Generator | None = None
) -> TrainingData:
    """Read and check frames, hold some out, and settle what the configuration leaves to the data.

    Arguments are those of :func:`train`.

    Raises:
        ConfigError: If the settings don't fit the data.
        DataError: If a file can't be read, or its frames can't be trained on.
    """
    config = TrainConfig() if config is None else config
    config, frames = _read(data, config)
    n_read = len(frames)
    if config.data.framework == "whole":
        frames = whole_frames(frames)
    ensure_trainable(frames)
    settings, reasons = resolve_split(config.data, frames)
    split = _hold_out(frames, settings, rng=np.random.default_rng(config.seed) if rng is None else rng)
    _check_species(frames, split)
    training = [frames[index] for index in split.train]
    resolved, more = resolve_config(config.model_copy(update={"data": settings}), training)
    check_stresses(training, LossWeights.of(resolved))
    check_label_consistency(frames, stresses=resolved.loss.stress_scale_mev_per_ang3 is not None)
    return TrainingData(resolved, reasons | more, frames, split, n_read - len(frames))


def train(
    data: Data | None = None,
    config: TrainConfig | None = None,
    *,
    rng: np.random.Generator | None = None,
    progress: Progress = silent,
    backend: BackendRun | None = None,
) -> TrainedModel:
    """Train a force field, as ``qff train`` does.

    Args:
        data: A file, the name of a shipped set, several of them, or frames as :class:`ase.Atoms` or
            :class:`~qiskit_qff.Frame`; ``config.data.path`` by default.
        config: Settings; the defaults if none are given.
        rng: Source of every random choice; from ``config.seed`` by default.
        progress: Called with a stage's name, work done and work in all.
        backend: Journal and callbacks of training on a backend, where ``config.estimator.backend`` names one.

    Raises:
        QFFError: From any step.
    """
    begin = time.perf_counter()
    config = TrainConfig() if config is None else config
    rng = np.random.default_rng(config.seed) if rng is None else rng
    found = read_training_data(data, config, rng=rng)
    training, measured = found.training, None
    if found.config.estimator.backend is not None:
        from qiskit_qff.training.measured.run import BackendRun, train_on_backend

        result, measured = train_on_backend(training, found.config, backend or BackendRun(), rng=rng, progress=progress)
    else:
        result = fit(prepare(training, found.config, progress=progress), rng=rng, progress=progress)
    seconds = time.perf_counter() - begin
    sides = {"train": training, "test": found.held_out}
    comparisons = {
        name: compare_model(result.force_field, frames, progress=progress) for name, frames in sides.items() if frames
    }
    metrics = {"train": measure(comparisons["train"])}
    if found.held_out:
        metrics["linear_test"] = measure(compare_model(result.linear, found.held_out, progress=progress))
        metrics["test"] = measure(comparisons["test"])
    seen = {SEEN_FRAMES: sorted({frame_hash(frame) for frame in training})}
    known = replace(result.force_field, metadata={**result.force_field.metadata, **seen})
    model, coverage = _scaled(known, found.held_out, comparisons.get("test"), progress)
    return TrainedModel(
        found,
        replace(result, force_field=model),
        comparisons,
        seconds,
        metrics=metrics,
        measured=measured,
        coverage=coverage,
    )


def _read(data: Data | None, config: TrainConfig) -> tuple[TrainConfig, list[Frame]]:
    """The frames, and the configuration that names where they came from."""
    if data is None:
        if config.data.path is None:
            raise ConfigError("data.path is null: that run was trained on frames given in Python. Name a data file.")
        return config, read_frames(config.data.path)
    paths = [data] if isinstance(data, (str, Path)) else data
    listed = list(paths) if isinstance(paths, Sequence) else []
    names = [str(item) for item in listed if isinstance(item, (str, Path))]
    if names and len(names) == len(listed):
        own = config.data.model_copy(update={"path": names[0] if len(names) == 1 else names})
        config = with_absolute_paths(config.model_copy(update={"data": own}), Path())
        return config, read_frames(config.data.path or [])
    own = config.data.model_copy(update={"path": None})
    return config.model_copy(update={"data": own}), read_frames(data)


def _scaled(
    model: ForceField, held_out: Sequence[Frame], comparison: Comparison | None, progress: Progress
) -> tuple[ForceField, dict[str, Any] | None]:
    """Scale uncertainties to the errors of held-out frames; one frame can't be judged by another."""
    if comparison is None or len(held_out) < 2 or model.posterior is None:
        return model, None
    deviations = deviations_of(model.uncertainty(), held_out, comparison, progress=progress)
    if not deviations.forces.min() > 0.0:  # an isolated atom, or training without any error
        return model, None
    scaled = replace(model.posterior, factor=deviations.factor, n_held_out=len(held_out))
    return replace(model, posterior=scaled), cross_checked_coverage(deviations)


def _check_species(frames: Sequence[Frame], split: Split) -> None:
    """Refuse, before any training, a split whose test frames hold an element that no training frame holds."""
    known = {int(number) for index in split.train for number in frames[index].numbers}
    for index in split.test:
        unknown = sorted(set(frames[index].numbers.tolist()) - known)
        if unknown:
            raise DataError(
                f"{frames[index].where}: held out, but no training frame contains {chemical_symbols[unknown[0]]}. "
                "Choose another --seed, --split or --test-fraction, or add frames with this element."
            )


def _hold_out(frames: list[Frame], config: ResolvedData, *, rng: np.random.Generator) -> Split:
    """Divide a data set by the rule that the configuration names.

    ``random`` takes any frames, ``block`` the last ones, ``balanced`` the same share from every group of frames with
    one tag, where nearly equal geometries stay on one side. ``none`` holds nothing out.
    """
    if config.split == "none":
        return Split(train=np.arange(len(frames)), test=np.arange(0))
    if config.split == "block":
        return block_split(len(frames), config.test_fraction)
    if config.split == "balanced":
        assert config.group is not None
        groups = tag_groups(frames, config.group)
        return balanced_split(groups, config.test_fraction, rng, units=near_copies(frames))
    return random_split(len(frames), config.test_fraction, rng)


def resolve_split(config: DataConfig, frames: Sequence[Frame]) -> tuple[ResolvedData, Reasons]:
    """Decide how frames are held out, where the configuration leaves it open."""
    split, group, reasons = config.split, config.group, Reasons()
    if split in {None, "balanced"} and group is None:
        group = group_tag(frames)
    if split == "balanced" and group is None:
        raise ConfigError(
            f"data.split 'balanced' needs a tag of all frames that divides them into groups, such as {GROUP_TAGS[0]}, "
            "and there is none. Name one as data.group (--group), or choose 'random' or 'block'."
        )
    if split is None and group is not None:
        split, reasons["data.split"] = "balanced", f"the tag {group!r} divides the frames into groups"
    elif split is None and is_time_ordered(frames):
        split, reasons["data.split"] = "block", "successive frames are alike, as in a trajectory"
    elif split is None:
        split, reasons["data.split"] = "random", "the frames are in no order of time and have no tag of groups"
    settings = config.model_dump() | {"split": split, "group": group}
    return ResolvedData.model_validate(settings), reasons


def resolve_config(config: TrainConfig, frames: Sequence[Frame]) -> tuple[ResolvedConfig, Reasons]:
    """Decide every setting that the configuration leaves open.

    Returns:
        The settings, and the reasons for those that were decided here.
    """
    data, reasons = resolve_split(config.data, frames)
    descriptor, more = _descriptor(config, frames)
    sections = {name: getattr(config, name) for name in TrainConfig.model_fields}
    return ResolvedConfig(**(sections | {"data": data, "descriptor": descriptor})), reasons | more


def _descriptor(config: TrainConfig, frames: Sequence[Frame]) -> tuple[ResolvedDescriptor, Reasons]:
    """Cutoff, radial functions and products."""
    given, reasons = config.descriptor, Reasons()
    n_atoms, n_elements = sum(frame.n_atoms for frame in frames), len(species_of(frames))
    r_cut, n_radial, products = given.r_cut, given.n_radial, given.products
    if given.own is not None:
        products, n_radial = 0, n_radial or N_RADIAL
    if products is None:
        pays = n_atoms >= PRODUCT_ATOMS
        products = PRODUCTS if pays else 0
        reasons["descriptor.products"] = f"{n_atoms:,} training atoms, {_side(pays)} {PRODUCT_ATOMS:,}"
    is_long = n_atoms >= ATOMS_PER_ELEMENT * n_elements
    share = f"{n_atoms // n_elements:,} training atoms per element, {_side(is_long)} {ATOMS_PER_ELEMENT:,}"
    is_default_long = r_cut is None and is_long
    if r_cut is None:
        r_cut, reasons["descriptor.r_cut"] = LONG_CUTOFF if is_long else CUTOFF, share
    chosen_radial = n_radial is None
    if n_radial is None:
        n_radial = LONG_N_RADIAL if is_default_long else N_RADIAL
        reasons["descriptor.n_radial"] = f"goes with a cutoff of {r_cut:g} Å"
    settings = given.model_dump() | {"r_cut": r_cut, "n_radial": n_radial, "products": products}
    resolved = ResolvedDescriptor.model_validate(settings)
    if chosen_radial and (fitting := fit_pool(resolved, n_elements, lower=True).n_radial) < n_radial:
        reasons["descriptor.n_radial"] = f"as many as a pool of {MAX_POOL:,} channels has room for"
        resolved = resolved.model_copy(update={"n_radial": fitting})
    return resolved, reasons


def _side(reached: bool) -> str:  # noqa: FBT001
    """Which side of a threshold a number is on."""
    return "at least" if reached else "fewer than"
