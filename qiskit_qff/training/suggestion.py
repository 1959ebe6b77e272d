"""A configuration that fits a data set: what its frames decide, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qiskit_qff.errors import DataError
from qiskit_qff.model.config import DataConfig, TrainConfig
from qiskit_qff.structures.defects import DataSummary
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.structures.summary import group_tags
from qiskit_qff.training.budget import size_limits
from qiskit_qff.training.defaults import (
    ATOMS_PER_ELEMENT,
    LONG_REACH,
    SOME_ATOMS,
    long_reach_pays,
    products_pay,
    with_data_defaults,
)
from qiskit_qff.training.holdout import hold_out
from qiskit_qff.training.references import reference_count


@dataclass(frozen=True)
class Suggestion:
    """A configuration and the reasons for what the data decided."""

    config: TrainConfig
    """The settings; its data path is as given."""
    notes: dict[str, str]
    """Reasons by dotted name of the setting, for example ``data.split``."""


def suggest_config(frames: Sequence[Frame], summary: DataSummary, paths: list[str]) -> Suggestion:
    """Settings for a data set: how to hold frames out, how far to look, how many features there are.

    Args:
        frames: The frames, fit for training.
        summary: What validation found in them.
        paths: Where they came from.

    Raises:
        BudgetError: If there are more elements than the limit on parameters allows.
        DataError: If the frames can't be divided.
    """
    data, why = _split(frames, summary)
    config = TrainConfig(data=data.model_copy(update={"path": paths[0] if len(paths) == 1 else paths}))
    split = hold_out(list(frames), config.data, rng=np.random.default_rng(config.seed))
    if not len(split.train):
        raise DataError("no frame would be left to train on; add frames.")
    training = [frames[index] for index in split.train]
    config = with_data_defaults(config, training)
    notes = {
        "data.split": why,
        "data.test_fraction": f"{len(training)} frames to train on, {len(split.test)} held out",
        "descriptor.r_cut": _reach(training),
        "descriptor.products": _products(training),
        "max_parameters": _budget(training, config),
    }
    if summary.energy_std_mev_per_atom is not None and summary.force_std_mev_per_ang is not None:
        notes["loss.force_scale_mev_per_ang"] = (
            f"for comparison, predicting the mean errs by {summary.force_std_mev_per_ang:.0f} meV/Å and "
            f"{summary.energy_std_mev_per_atom:.1f} meV/atom"
        )
    return Suggestion(config, notes)


def _split(frames: Sequence[Frame], summary: DataSummary) -> tuple[DataConfig, str]:
    """How to hold frames out, and why."""
    if tags := group_tags(summary):
        (tag, count), *others = sorted(tags.items(), key=lambda item: -item[1])  # the finest division first
        reason = f"the tag {tag!r} tells {count} groups apart; an equal share of each is held out, near copies together"
        more = f" (other tags that do: {', '.join(other for other, _ in others)})" if others else ""
        return DataConfig(split="balanced", group=tag), reason + more
    if summary.is_time_ordered:
        reason = "successive frames resemble each other as in a trajectory; a random split would flatter the errors"
        return DataConfig(split="block"), reason
    return DataConfig(split="random"), f"neither groups nor an order in time were found in {len(frames)} frames"


def _reach(training: Sequence[Frame]) -> str:
    """Why the cutoff is what it is."""
    atoms, elements = sum(frame.n_atoms for frame in training), len(species_of(training))
    side = "at least" if long_reach_pays(atoms, elements) else "fewer than"
    return (
        f"{atoms:,} training atoms of {_count(elements, 'element')}, {atoms // elements:,} each on average: {side} the "
        f"{ATOMS_PER_ELEMENT:,} from which on {LONG_REACH['r_cut']:g} Å and n_radial {LONG_REACH['n_radial']} pay"
    )


def _products(training: Sequence[Frame]) -> str:
    """Why there are products of channels or none."""
    atoms = sum(frame.n_atoms for frame in training)
    side = "at least" if products_pay(atoms) else "fewer than"
    return f"{atoms:,} atoms in the training frames, {side} the {SOME_ATOMS:,} from which on products of channels pay"


def _budget(training: Sequence[Frame], config: TrainConfig) -> str:
    """Who shares the parameters."""
    species = tuple(sorted({int(number) for frame in training for number in frame.numbers}))
    references = reference_count(training, species)
    limits = size_limits(config, species, references)
    return (
        f"shared by {_count(len(species), 'element')}: {_count(references, 'reference energy', 'reference energies')}, "
        f"{_count(len(species), 'readout weight')} and {limits.total} features, of which the data decide who gets how "
        "many"
    )


def _count(number: int, one: str, several: str = "") -> str:
    """The number with its noun."""
    return f"{number} {one if number == 1 else several or one + 's'}"
