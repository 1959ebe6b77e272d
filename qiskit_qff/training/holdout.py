"""Which frames are trained on and which are held out, by the rule that the configuration names."""

import numpy as np

from qiskit_qff.model.config import ResolvedData
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.splitting import (
    Split,
    balanced_split,
    block_split,
    near_copies,
    random_split,
    tag_groups,
)


def hold_out(frames: list[Frame], config: ResolvedData, *, rng: np.random.Generator) -> Split:
    """Divide a data set.

    ``random`` takes any frames, ``block`` the last ones, ``balanced`` the same share from every group of
    frames with one tag, where nearly equal geometries stay on one side. ``none`` holds nothing out.

    Args:
        frames: the data set, in file order.
        config: the rule, the share held out, and the tag of the groups.
        rng: source of the choice.

    Raises:
        ConfigError: if there are too few frames to hold any out.
        DataError: if ``balanced`` is asked for and a frame lacks the tag.
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
