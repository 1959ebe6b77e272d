"""What an active learning run is asked to do: one YAML file, checked before any work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from qiskit_qff.durable import read_yaml
from qiskit_qff.errors import parse_section
from qiskit_qff.labelling.reference import Reference, reference
from qiskit_qff.model.config import ConfigSection, TrainConfig
from qiskit_qff.structures.dataset import is_shipped


class LabelConfig(ConfigSection):
    """Who labels, and how."""

    calculator: str = Field(
        description="cp2k, tblite, any other calculator of ASE (vasp, espresso, emt, ...), or package.module:factory"
    )
    options: dict[str, Any] | str = Field(
        default_factory=dict, description="the calculator's settings, or the YAML file of 'qff label --options'"
    )
    workers: int = Field(default=1, ge=1, description="frames labelled at the same time")
    threads: int = Field(default=1, ge=1, description="threads of the program in each worker")
    timeout_s: float | None = Field(default=None, gt=0.0, description="seconds that a frame may take")

    def reference(self) -> Reference:
        """The calculator with its settings, checked."""
        options = Path(self.options) if isinstance(self.options, str) else self.options
        return reference(self.calculator, options, where="label.options")


class DynamicsConfig(ConfigSection):
    """Molecular dynamics of every round: one run per temperature and repeat."""

    structures: str | list[str] | None = Field(
        default=None, description="files whose frames runs begin from, in turn; default those of 'start'"
    )
    temperatures_k: tuple[float, ...] = Field(default=(300.0,), min_length=1)
    repeats: int = Field(default=1, ge=1, description="runs per temperature, with velocities of their own")
    time_ps: float = Field(default=10.0, gt=0.0, description="length of a run that the model survives")
    timestep_fs: float | None = Field(default=None, gt=0.0, description="default 1, or 0.5 where H is present")
    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    thermostat: Literal["bussi", "langevin", "nose-hoover"] = "bussi"
    pressure_gpa: float = 0.0
    interval: int = Field(default=20, ge=1, description="steps between frames of the trajectory")

    @field_validator("temperatures_k")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0.0 < temperature < 1e5 for temperature in value) or len(set(value)) < len(value):
            raise ValueError("temperatures must be positive, each named once")
        return value


class SelectConfig(ConfigSection):
    """Which frames of the dynamics are labelled."""

    per_round: int = Field(default=10, ge=1, description="frames labelled in a round to train on, the most uncertain")
    grade_limit: float | None = Field(
        default=None,
        gt=0.0,
        description="largest grade that counts as known, 1 at the edge of the training data; default 1.2",
    )
    break_at: float = Field(
        default=3.0,
        ge=1.0,
        description="a run ends where a grade passes so many times its limit",
    )
    held_out: int = Field(
        default=2,
        ge=0,
        description="frames inside the limit, evenly drawn from the dynamics, that are never trained on",
    )
    max_force_ev_per_ang: float = Field(
        default=50.0, gt=0.0, description="labelled frames with a larger force are set aside"
    )


class StopConfig(ConfigSection):
    """When it is enough; whichever comes first."""

    rounds: int = Field(default=10, ge=1, description="most rounds of dynamics")
    labels: int = Field(default=200, ge=2, description="most labels, those of the start included")
    calm_rounds: int = Field(
        default=2, ge=1, description="stop after so many rounds in a row whose runs all stayed inside and to the end"
    )
    force_mae_mev_per_ang: float | None = Field(
        default=None, gt=0.0, description="stop when the error on new labels, before training on them, is below"
    )


class LearnConfig(ConfigSection):
    """Everything that decides an active learning run."""

    start: str | list[str] = Field(
        description="files of structures to begin with; frames labelled by the same calculator and settings keep labels"
    )
    test: str | list[str] | None = Field(default=None, description="files of structures held out from the beginning")
    label: LabelConfig
    md: DynamicsConfig = DynamicsConfig()
    select: SelectConfig = SelectConfig()
    stop: StopConfig = StopConfig()
    train: TrainConfig = Field(default=TrainConfig(), description="sections of a 'qff train' configuration")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _training_alone(self) -> Self:
        for name, instead in (
            ("data", "the frames are those of 'start' and of the rounds"),
            ("estimator", "losses are computed; train on a backend afterwards, on labels.extxyz"),
            ("seed", "'seed' at the top seeds everything"),
        ):
            if name in self.train.model_fields_set:
                raise ValueError(f"train.{name} has no meaning here: {instead}")
        return self

    def identity(self) -> dict[str, Any]:
        """By dotted name, the settings that must stay when a run goes on: numbers of the rounds done depend on them."""
        settings, flat = self.model_dump(mode="json", exclude={"stop"}), dict[str, Any]()
        for free in ("workers", "threads", "timeout_s"):
            del settings["label"][free]
        for section, value in settings.items():
            flat |= {f"{section}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {section: value}
        return flat


def load_learn_config(path: Path) -> LearnConfig:
    """Read and check a YAML file; paths in it begin at its directory."""
    content = read_yaml(path)
    config = parse_section(LearnConfig, content, where=str(path))
    base = path.absolute().parent
    label, md = config.label, config.md
    options = str(base / label.options) if isinstance(label.options, str) else label.options
    return config.model_copy(
        update={
            "start": _from(base, config.start),
            "test": _from(base, config.test),
            "label": label.model_copy(update={"options": options}),
            "md": md.model_copy(update={"structures": _from(base, md.structures)}),
        }
    )


def _from(base: Path, paths: str | list[str] | None) -> list[str] | None:
    """Paths from a directory; names of shipped sets stay what they are."""
    if paths is None:
        return None
    listed = [paths] if isinstance(paths, str) else paths
    return [path if is_shipped(path) else str(base / path) for path in listed]
