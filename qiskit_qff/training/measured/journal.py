"""What has been measured so far, on disk after every measurement, so that nothing is ever measured twice.

Optimisers of libraries keep their state to themselves. But they are deterministic: given the same answers they ask
the same questions. So the journal keeps every answer, and a resumed run asks again from the start and is answered
from the journal, without a circuit, until the journal ends. All that is lost by a kill is the measurement under way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import read_json, write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss

_SAME_DATA = 1e-6
"""Relative difference of sums over the data up to which they count as the same, computed on another machine."""
_SAME_ANGLES = 1e-7
"""Largest difference in radians between an angle asked for and the one in the journal."""


class _Part(BaseModel):
    """Part of a journal: finite numbers of the right kind, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Answer(_Part):
    """One measurement."""

    end_of: int | None
    """Number of steps after which it was made; None before the last."""
    parameters: list[float]
    loss: float
    std_error: float
    cost: Cost
    slopes: list[float] | None
    slope_errors: list[float] | None
    step: list[float] | None
    random: dict[str, Any]
    """State of the generator of simulated shots afterwards."""

    @classmethod
    def of(cls, sample: LossSample, rng: np.random.Generator, end_of: int | None) -> Answer:
        """The answer that holds a sample."""
        return cls(
            end_of=end_of,
            parameters=sample.parameters.tolist(),
            loss=sample.loss,
            std_error=sample.std_error,
            cost=sample.cost,
            slopes=_plain(sample.slopes),
            slope_errors=_plain(sample.slope_errors),
            step=_plain(sample.step),
            random=dict(rng.bit_generator.state),
        )

    def sample(self) -> LossSample:
        """The sample."""
        gradient = [None if v is None else np.array(v) for v in (self.slopes, self.slope_errors, self.step)]
        return LossSample(np.array(self.parameters), self.loss, self.std_error, self.cost, *gradient)


def _plain(values: FloatArray | None) -> list[float] | None:
    """An array as a list."""
    return None if values is None else values.tolist()


class Document(_Part):
    """A journal file."""

    format: Literal["qiskit_qff training journal"] = "qiskit_qff training journal"
    version: Literal[2] = 2
    settings: dict[str, Any]
    """Backend, shots, optimiser and whatever else decides which questions are asked."""
    data: list[float]
    """A few sums over the training data."""
    start: list[float]
    """Angles to begin from."""
    entries: list[Answer] = []


class Journal:
    """Answers an optimiser, from what was measured before or by measuring."""

    def __init__(
        self,
        loss: MeasuredLoss,
        begun: Document,
        *,
        rng: np.random.Generator,
        path: Path | None,
        steps: int,
        resume: bool,
    ) -> None:
        """Begin, or go on with the file.

        Args:
            path: File to keep; None keeps nothing.
        """
        self._loss, self._rng, self._path, self._steps = loss, rng, path, steps
        self._document = begun
        self._position = 0
        self.spent = Cost()
        """Cost of all answers given, replayed ones included."""
        if resume:
            self._document = read_journal(path)
            self._check(begun)
            entries = self._document.entries
            while entries and entries[-1].end_of not in {None, steps}:
                entries.pop()
            if entries:
                self._set_state(entries[-1].random)
        self.resumed = len(self._document.entries)
        """Number of answers in the file."""

    @property
    def start(self) -> FloatArray:
        """Angles to begin from; as they were, because on another machine they would differ in the last digits."""
        return np.array(self._document.start)

    def sample(self, angles: FloatArray, *, slopes: bool, at_end: bool = False) -> LossSample:
        """Loss of some angles, from the file or measured and added to it.

        Args:
            angles: θ, shape ``(n_angles,)``.
        """
        if self._position < len(self._document.entries):
            entry = self._document.entries[self._position]
            sample = entry.sample()
            same = np.shape(sample.parameters) == (self._loss.objective.layout.n_parameters,) and np.allclose(
                sample.parameters[: len(angles)], angles, rtol=0.0, atol=_SAME_ANGLES
            )
            if not same or slopes is (entry.slopes is None):
                raise ConfigError(
                    f"{self._path}: answer {self._position + 1} is about other angles than the optimiser asks for now. "
                    "Another version of the libraries measured it; continue on that one, or begin anew without "
                    "--resume."
                )
        else:
            sample = self._loss.sample(angles, slopes=slopes)
            self._document.entries.append(Answer.of(sample, self._rng, self._steps if at_end else None))
            if self._path is not None:
                write_atomically(self._path, self._document.model_dump_json())
        self._position += 1
        self.spent += sample.cost
        return sample

    def _set_state(self, state: dict[str, Any]) -> None:
        """Go on with the shots where the file ends."""
        try:
            self._rng.bit_generator.state = state
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise _damaged(self._path, error) from error

    def _check(self, begun: Document) -> None:
        """Refuse the journal of another run, naming what differs."""
        for key, value in begun.settings.items():
            if (stored := self._document.settings.get(key)) != value:
                raise ConfigError(
                    f"{self._path}: was begun with {key} = {stored!r}, now it is {value!r}; "
                    "resume with the same settings, or begin anew without --resume."
                )
        if np.shape(self._document.data) != np.shape(begun.data) or not np.allclose(
            self._document.data, begun.data, rtol=_SAME_DATA
        ):
            raise ConfigError(
                f"{self._path}: was begun with other training data or channels; begin anew without --resume."
            )


def read_journal(path: Path | None) -> Document:
    """The content of a journal file."""
    if path is None or not path.is_file():
        raise ConfigError(f"{path}: there is no journal of a training run to resume; start without --resume.")
    try:
        return Document.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path | None, error: Exception) -> ConfigError:
    """The error for a file that is no journal of this version."""
    reason = str(error).splitlines()[0]
    return ConfigError(
        f"{path}: is no training journal of this version, or is damaged ({reason}); restore it, or start without "
        "--resume."
    )
