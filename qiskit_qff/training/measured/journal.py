"""What has been measured so far, on disk after every measurement, so that nothing is ever measured twice.

Optimisers of libraries keep their state to themselves. But they are deterministic: given the same answers they ask
the same questions. So the journal keeps every answer, and a resumed run asks again from the start and is answered
from the journal, without a circuit, until the journal ends. All that is lost by a kill is the measurement under way.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.bounded import read_json
from qiskit_qff.durable import write_atomically
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss, SlopeSample

FORMAT, VERSION = "qiskit_qff training journal", 1
_ANSWER = {"kind", "angles", "cost", "random"}
_LOSS = _ANSWER | {"parameters", "loss", "std_error"}
_COST = {field.name for field in fields(Cost)}
_NEEDED = {"loss": _LOSS, "final": _LOSS | {"steps"}, "slopes": _ANSWER | {"slopes", "std_errors"}}
"""What an answer of each kind consists of."""
_SCALARS = {"loss", "std_error", "steps"}
"""Entries of an answer that are single numbers; all others are lists."""
_SAME_DATA = 1e-6
"""Relative difference of sums over the data up to which they count as the same, computed on another machine."""
_SAME_ANGLES = 1e-7
"""Largest difference in radians between an angle asked for and the one in the journal."""


@dataclass(frozen=True)
class Identity:
    """What two runs must have in common for one to go on with the other's journal."""

    settings: dict[str, Any]
    """Backend, shots, optimiser and whatever else decides which questions are asked."""
    data: tuple[float, ...]
    """A few sums over the training data."""


class Journal:
    """Answers an optimiser, from what was measured before or by measuring."""

    def __init__(
        self,
        loss: MeasuredLoss,
        identity: Identity,
        *,
        starts: FloatArray,
        rng: np.random.Generator,
        path: Path | None,
    ) -> None:
        """Begin an empty journal; see :meth:`resume` to go on with an old one.

        Args:
            loss: What measures.
            identity: Written into the file, and compared when it is read.
            starts: Angles to begin from, shape ``(n_candidates, n_angles)``; those of the file when it is read.
            rng: Makes the shots of simulators; its state is kept, so that a resumed run draws what it would have.
            path: File to keep; None keeps nothing.
        """
        self._loss = loss
        self._identity = identity
        self.starts = starts
        """Angles to begin from, shape ``(n_candidates, n_angles)``."""
        self._rng = rng
        self._path = path
        self._entries: list[dict[str, Any]] = []
        self._position = 0
        self._current: LossSample | None = None
        self.spent = Cost()
        """Cost of all answers given, replayed ones included."""
        self.measured = Cost()
        """Cost of what was measured by this process."""

    def resume(self, *, steps: int) -> int:
        """Read the file and answer from it first.

        Args:
            steps: Steps this run will make. Where the earlier one ended after another number, its end is forgotten.

        Returns:
            Number of answers in it.

        Raises:
            ConfigError: If there is none, it can't be read, or it belongs to another run.
        """
        document = read_journal(self._path)
        _check(document, self._identity, self._path)
        # As they were: computed again on another machine they would differ in the last digits.
        self.starts = np.array(document["starts"])
        entries = document["entries"]
        while entries and entries[-1].get("steps", steps) != steps:
            entries.pop()
        if entries:
            self._rng.bit_generator.state = entries[-1]["random"]
        self._entries = entries
        return len(entries)

    @property
    def is_replaying(self) -> bool:
        """Whether the next answer comes from the file."""
        return self._position < len(self._entries)

    @property
    def std_error(self) -> float:
        """Standard error of the loss that was answered last."""
        return 0.0 if self._current is None else self._current.std_error

    def final(self, angles: FloatArray, *, shots: int | None, steps: int) -> LossSample:
        """Loss of angles that may be kept, measured with a number of shots of its own.

        Args:
            angles: θ, shape ``(n_angles,)``.
            shots: Executions per circuit.
            steps: Steps of the run that ends here.

        Raises:
            ConfigError: If the journal holds other angles here.
        """
        return self._loss_answer("final", angles, shots=shots, steps=steps)

    def _loss_answer(self, kind: str, angles: FloatArray, *, shots: int | None = None, **more: int) -> LossSample:
        """A loss from the file, or measured and added to it."""
        entry = self._next(kind, angles)
        if entry is None:
            sample = self._loss.sample(angles, shots=shots)
            self._add(
                kind=kind,
                angles=angles,
                parameters=sample.parameters,
                loss=sample.loss,
                std_error=sample.std_error,
                residual=sample.residual,
                cost=sample.cost,
                **more,
            )
        else:
            sample = LossSample(
                np.array(entry["parameters"]),
                entry["loss"],
                entry["std_error"],
                np.array(entry.get("residual", [])),
                Cost(**entry["cost"]),
            )
        self._current = sample
        self.spent += sample.cost
        return sample

    def loss(self, angles: FloatArray) -> LossSample:
        """Loss of some angles, measured anew whatever the last answer was.

        Args:
            angles: θ, shape ``(n_angles,)``.

        Raises:
            ConfigError: If the journal holds other angles here.
        """
        return self._loss_answer("loss", angles)

    def value(self, angles: FloatArray) -> LossSample:
        """Loss of some angles; the last answer where it is about the same angles.

        Args:
            angles: θ, shape ``(n_angles,)``.

        Raises:
            ConfigError: If the journal holds other angles here.
        """
        if self._current is not None and np.array_equal(self._current.parameters[: len(angles)], angles):
            return self._current
        return self._loss_answer("loss", angles)

    def slopes(self, angles: FloatArray) -> SlopeSample:
        """Gradient at some angles, with the loss measured first where it is not known.

        Args:
            angles: θ, shape ``(n_angles,)``.

        Raises:
            ConfigError: If the journal holds other angles here.
        """
        current = self.value(angles)
        entry = self._next("slopes", angles)
        if entry is None:
            sample = self._loss.slopes(current)
            self._add(
                kind="slopes", angles=angles, slopes=sample.slopes, std_errors=sample.std_errors, cost=sample.cost
            )
        else:
            sample = SlopeSample(np.array(entry["slopes"]), np.array(entry["std_errors"]), Cost(**entry["cost"]))
        self.spent += sample.cost
        return sample

    def _next(self, kind: str, angles: FloatArray) -> dict[str, Any] | None:
        """The next answer of the file, or None at its end."""
        if not self.is_replaying:
            return None
        entry = self._entries[self._position]
        same = entry["kind"] == kind and np.allclose(entry["angles"], angles, rtol=0.0, atol=_SAME_ANGLES)
        if not same:
            raise ConfigError(
                f"{self._path}: answer {self._position + 1} is about other angles than the optimiser asks for now. "
                "Another version of the libraries measured it; continue on that one, or begin anew without --resume."
            )
        self._position += 1
        return entry

    def _add(self, *, cost: Cost, **answer: Any) -> None:
        """Append an answer and write the file."""
        self.measured += cost
        if answer["kind"] == "loss":
            # Only the last loss can still be asked for its gradient.
            for entry in self._entries[-2:]:
                entry.pop("residual", None)
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in answer.items()}
        self._entries.append({**plain, "cost": asdict(cost), "random": self._rng.bit_generator.state})
        self._position = len(self._entries)
        if self._path is not None:
            head = {"format": FORMAT, "version": VERSION, "identity": asdict(self._identity)}
            document = {**head, "starts": self.starts.tolist(), "entries": self._entries}
            write_atomically(self._path, json.dumps(document))


def read_journal(path: Path | None) -> dict[str, Any]:
    """The document of a journal file.

    Args:
        path: The file.

    Raises:
        ConfigError: If it is missing or is no journal.
    """
    if path is None or not path.is_file():
        raise ConfigError(f"{path}: there is no journal of a training run to resume; start without --resume.")
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a training journal ({error}); start without --resume.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise ConfigError(f"{path}: is no training journal of this version; start without --resume.")
    entries, identity = document.get("entries"), document.get("identity")
    if not (
        isinstance(entries, list)
        and all(isinstance(entry, dict) and _is_answer(entry) for entry in entries)
        and isinstance(identity, dict)
        and isinstance(identity.get("settings"), dict)
        and _are_numbers(identity.get("data"))
        and _fits(document.get("starts"), entries)
    ):
        raise ConfigError(f"{path}: is damaged or was edited; restore it, or start without --resume.")
    return document


def _fits(starts: Any, entries: list[dict[str, Any]]) -> bool:
    """Whether starts are angles of some number, and all answers are about as many."""
    return (
        _are_numbers(starts)
        and np.ndim(starts) == 2
        and all(np.shape(entry["angles"]) == np.shape(starts)[1:] for entry in entries)
    )


def _is_answer(entry: dict[str, Any]) -> bool:
    """Whether an answer has all it needs: numbers, a cost and the state of a generator."""
    if not _NEEDED.get(str(entry.get("kind")), {""}) <= set(entry):
        return False
    numbers = all(
        _are_numbers(value) and np.ndim(value) == (0 if key in _SCALARS else 1)
        for key, value in entry.items()
        if key not in {"kind", "cost", "random"}
    )
    cost = entry["cost"]
    counted = isinstance(cost, dict) and set(cost) <= _COST and all(isinstance(v, int | float) for v in cost.values())
    return numbers and counted and _is_state(entry["random"])


def _is_state(value: Any) -> bool:
    """Whether a value is a state of a random generator."""
    try:
        np.random.default_rng().bit_generator.state = value
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return False
    return True


def _are_numbers(value: Any) -> bool:
    """Whether a value is a number, or an array of them as lists."""
    try:
        return np.asarray(value).dtype.kind in "if"
    except (ValueError, OverflowError):
        return False


def _check(document: dict[str, Any], identity: Identity, path: Path | None) -> None:
    """Refuse the journal of another run, naming what differs."""
    stored = document["identity"]
    for key, value in identity.settings.items():
        if stored["settings"].get(key) != value:
            raise ConfigError(
                f"{path}: was begun with {key} = {stored['settings'].get(key)!r}, now it is {value!r}; "
                "resume with the same settings, or begin anew without --resume."
            )
    if not np.allclose(stored["data"], identity.data, rtol=_SAME_DATA):
        raise ConfigError(f"{path}: was begun with other training data or channels; begin anew without --resume.")
