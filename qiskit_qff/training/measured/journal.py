"""What has been measured so far, on disk after every measurement, so that nothing is ever measured twice.

Optimisers of libraries keep their state to themselves. But they are deterministic: given the same answers they ask
the same questions. So the journal keeps every answer, and a resumed run asks again from the start and is answered
from the journal, without a circuit, until the journal ends. All that is lost by a kill is the measurement under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import Journal
from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.training.measured.loss import LossSample, MeasuredLoss

_SAME_DATA = 1e-6
"""Relative difference of sums over the data up to which they count as the same, computed on another machine."""
_SAME_ANGLES = 1e-7
"""Largest difference in radians between an angle asked for and the one in the journal."""
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""Exceptions that a damaged journal entry can raise."""


class MeasuredAnswers:
    """Answers an optimiser, from what was measured before or by measuring."""

    def __init__(
        self,
        loss: MeasuredLoss,
        begun: Mapping[str, Any],
        *,
        rng: np.random.Generator,
        path: Path | None,
        steps: int,
        resume: bool,
    ) -> None:
        """Begin, or go on with the file; without a path nothing is kept.

        Args:
            begun: What another session must share to go on, and where it begins: ``settings``, by name whatever decides
                which questions are asked; ``data``, a few sums over the training data; ``start``, the angles to begin
                from, kept because on another machine they would differ in the last digits.
        """
        self._loss, self._rng, self._path, self._steps = loss, rng, path, steps
        self._random: Any = None
        self._position = 0
        self.resumed = 0
        """Answers that came from the file."""
        self.spent = Cost()
        """Cost of all answers given."""
        self.start: FloatArray = np.array(begun["start"], dtype=float)
        """Angles to begin from."""
        self._journal = None
        if path is not None:
            if resume and not path.is_file():
                raise ConfigError(f"{path}: there is no journal of a training run to resume; start without --resume.")
            if not resume:
                path.unlink(missing_ok=True)
            self._journal = Journal(path)
            try:
                self._check_beginning(self._journal.once("begin", lambda: begun), begun)
            except ConfigError:
                self.close()
                raise

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()

    def sample(self, angles: FloatArray, *, slopes: bool, at_end: bool = False) -> LossSample:
        """Loss of some angles θ, shape ``(n_angles,)``, from the file or measured and added to it.

        What decides ``at_end`` which angles are kept has another place in the file for every number of steps.
        """
        name = f"measurement {self._position}" + (f", after {self._steps} steps" if at_end else "")
        stored = None if self._journal is None else self._journal.get(name)
        if stored is not None:
            sample = self._stored(stored, name, angles, slopes=slopes)
            self.resumed += 1
        else:
            if self._random is not None:  # go on with the shots where the file ends
                try:
                    self._rng.bit_generator.state = self._random
                except _UNREADABLE as error:
                    raise self._damaged(error) from error
                self._random = None
            sample = self._loss.sample(angles, slopes=slopes)
            if self._journal is not None:
                values = vars(sample).items()
                entry = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values}
                random = dict(self._rng.bit_generator.state)
                self._journal.enter(name, entry | {"cost": asdict(sample.cost), "random": random})
        self._position += 1
        self.spent += sample.cost
        return sample

    def _stored(self, stored: Any, name: str, angles: FloatArray, *, slopes: bool) -> LossSample:
        """A sample from the file; refused if it answers another question."""
        try:
            self._random, cost = stored["random"], Cost(**stored["cost"])
            parameters = np.array(stored["parameters"], dtype=float)
            gradient = [
                None if stored[key] is None else np.array(stored[key], dtype=float)
                for key in ("slopes", "slope_errors", "step")
            ]
            sample = LossSample(parameters, float(stored["loss"]), float(stored["std_error"]), cost, *gradient)
        except _UNREADABLE as error:
            raise self._damaged(error) from error
        same = parameters.shape == (self._loss.objective.layout.n_parameters,) and np.allclose(
            parameters[: len(angles)], angles, rtol=0.0, atol=_SAME_ANGLES
        )
        if not same or slopes is (sample.slopes is None):
            raise ConfigError(
                f"{self._path}: {name} is about other angles than the optimiser asks for now. Another version of the "
                "libraries measured it; continue on that one, or begin anew without --resume."
            )
        return sample

    def _check_beginning(self, stored: Any, begun: Mapping[str, Any]) -> None:
        """Take the start of the file; refused if it began another run, naming what differs."""
        try:
            settings, data = dict(stored["settings"]), np.array(stored["data"], dtype=float)
            self.start = np.array(stored["start"], dtype=float)
        except _UNREADABLE as error:
            raise self._damaged(error) from error
        for key, value in begun["settings"].items():
            if (before := settings.get(key)) != value:
                raise ConfigError(
                    f"{self._path}: was begun with {key} = {before!r}, now it is {value!r}; "
                    "resume with the same settings, or begin anew without --resume."
                )
        if data.shape != (len(begun["data"]),) or not np.allclose(data, begun["data"], rtol=_SAME_DATA):
            raise ConfigError(
                f"{self._path}: was begun with other training data or channels; begin anew without --resume."
            )

    def _damaged(self, error: Exception) -> ConfigError:
        """The error for a file that is no journal of this version."""
        return ConfigError(
            f"{self._path}: is no training journal of this version, or is damaged ({type(error).__name__}: {error}); "
            "restore it, or start without --resume."
        )
