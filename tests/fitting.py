"""The fit alone, on all frames given: what tests of the trainer need of a training run."""

from qiskit_qff.training.trainer import TrainingResult, fit, prepare


def fitted(frames, config, *, rng) -> TrainingResult:
    """Channels, circuit and parameters fitted to the frames; none is held out."""
    return fit(prepare(frames, config), rng=rng)
