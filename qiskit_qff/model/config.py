"""The training configuration: one YAML file, checked before any work begins.

:func:`commented_yaml` writes it with a comment at every key.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from qiskit_qff.descriptors.channels import find_descriptor
from qiskit_qff.durable import read_yaml
from qiskit_qff.errors import ConfigError, parse_section
from qiskit_qff.structures.dataset import is_shipped

WIDTH = 100
"""Column that comments are wrapped at."""

_BOUNDS = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))


def config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors and other programs."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return dialect | TrainConfig.model_json_schema() | {"title": "Training configuration of qiskit_qff"}


def commented_yaml(config: TrainConfig, *, heading: str, notes: Mapping[str, str]) -> str:
    """A configuration that explains itself.

    Args:
        notes: What the data have to do with a value, by dotted name such as ``data.split``.
    """
    values, schema = config.model_dump(mode="json"), config_schema()
    lines = [*_comment(heading)]
    for name, field in TrainConfig.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            lines += ["", *_entry(name, values[name], schema["properties"][name], notes, indent="")]
            continue
        entries = schema["$defs"][section.__name__]
        lines += ["", *_comment(f"---- {entries['description']}"), f"{name}:"]
        for key, entry in entries["properties"].items():
            lines += _entry(f"{name}.{key}", values[name][key], entry, notes, indent="  ")
    return "\n".join(lines) + "\n"


def choices(entry: Mapping[str, Any]) -> str:
    """What values an entry of the schema allows beside its type, in words; empty where any will do."""
    parts = entry.get("anyOf", [entry])
    words = [str(word) for part in parts for word in part.get("enum", ())]
    bounds = [f"{sign} {part[key]:g}" for part in parts for key, sign in _BOUNDS if key in part]
    none = ["or null"] if any(part.get("type") == "null" for part in parts) else []
    return ", ".join([*(["one of " + ", ".join(words)] if words else []), *bounds, *none])


def _entry(name: str, value: object, entry: Mapping[str, Any], notes: Mapping[str, str], *, indent: str) -> list[str]:
    allowed = choices(entry)
    text = entry["description"] + (f" ({allowed})" if allowed else "")
    lines = _comment(text, indent=indent)
    if name in notes:
        lines += _comment(f"Here: {notes[name]}", indent=indent)
    plain = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n")
    return [*lines, f"{indent}{name.rpartition('.')[2]}: {plain.strip()}"]


def _comment(text: str, *, indent: str = "") -> list[str]:
    """Text as comment lines; its own line breaks stay."""
    return [
        f"{indent}# {line}".rstrip()
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, WIDTH - len(indent) - 2, break_long_words=False) or [""]
    ]


OptimizerName = Literal["gauss_newton", "adam"]
"""Optimisers that train on a backend."""
SplitName = Literal["random", "block", "balanced", "none"]
"""Ways to hold frames out."""


class ConfigSection(BaseModel):
    """A part of a configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(ConfigSection):
    """Where the frames come from and which are held out."""

    path: str | list[str] | None = Field(
        default="shipped",
        description="data file(s), 'shipped' (Li-MOF-5) or 'li6ps5cl'; null: frames were given in Python",
    )
    split: SplitName | None = Field(
        default=None,
        description="how frames are held out: 'random'; 'block', the last ones; 'balanced', an equal share of each "
        "group; 'none'. Default: balanced where a tag divides the frames into groups, block where they are in "
        "time order, else random",
    )
    test_fraction: float = Field(default=0.2, gt=0.0, lt=1.0, description="share of the frames held out")
    group: str | None = Field(
        default=None,
        description="frame tag that split 'balanced' draws from evenly; default: replica, config_type or source",
    )
    framework: Literal["any", "whole"] = Field(
        default="any",
        description="'whole' leaves out frames that lack bonds which most others have, as 'qff validate' lists them",
    )


class DescriptorConfig(ConfigSection):
    """Size and reach of the channel pool; ``n_radial``, ``l_max`` and ``products`` are of the built-in channels."""

    own: dict[str, JsonValue] | None = Field(
        default=None,
        description="instead of the built-in channels: name of a registered descriptor and its arguments, for example "
        "{name: soap, n_max: 4}",
    )

    r_cut: float | None = Field(
        default=None,
        gt=1.0,
        le=12.0,
        description="cutoff radius in Å; default: 5, or 6 with at least 1,800 training atoms per element",
    )
    n_radial: int | None = Field(
        default=None,
        ge=2,
        description="three-body radial functions per neighbour species; default: 5, or 7 if the cutoff defaults to 6 Å",
    )
    l_max: int = Field(default=4, ge=0, le=6, description="highest degree of the three-body channels")
    products: int | None = Field(
        default=None,
        ge=0,
        le=4,
        description="rounds in which products of channels join the pool; default: 0, or 2 with at least 1,000 training "
        "atoms",
    )

    @model_validator(mode="after")
    def _own_exists(self) -> Self:
        if self.own is not None:
            try:
                find_descriptor(str(self.own.get("name")))
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if self.products:
                raise ValueError("descriptor.products are of the built-in channels; leave them out with descriptor.own")
        return self


class CircuitConfig(ConfigSection):
    """The circuit of a register and its readout."""

    family: str = Field(
        default="ry_tree",
        description="ry_tree prepares any real vector: one parameter per feature; others have a fixed number of angles "
        "per register: brickwork_cz, brickwork_rzz, real_amplitudes, efficient_su2, excitation_preserving, or the name "
        "of an ansatz of your own (register_ansatz)",
    )
    readout: Literal["rank_one"] | list[str] = Field(
        default="rank_one",
        description="rank_one: one weight on |0...0>; or Pauli strings with a weight each, such as [IZ, ZI, XX] (last "
        "letter: first qubit), z_diagonal for up to four Z strings; ry_tree has rank_one",
    )
    n_qubits: int = Field(
        default=2, ge=1, le=6, description="qubits of a register, which holds up to 2^n - 1 features of an element"
    )
    layers: int = Field(default=4, ge=1, description="entangling layers; ry_tree has none")

    @model_validator(mode="before")
    @classmethod
    def _z_strings(cls, data: Any) -> Any:
        """Z strings by their number, as in configurations of 0.1."""
        if not isinstance(data, dict) or not isinstance(readout := data.get("readout", "rank_one"), str):
            return data
        kept = {key: value for key, value in data.items() if key != "n_readouts"}
        if readout == "z_diagonal" and (n_qubits := kept.get("n_qubits", 2)) in range(1, 7):
            from qiskit_qff.circuit.ansatz import z_labels

            count = data.get("n_readouts", min(4, 2**n_qubits))
            if count not in range(1, 2**n_qubits + 1):
                raise ValueError(f"n_readouts is {count}, but {n_qubits} qubits have {2**n_qubits} Z-diagonal readouts")
            kept["readout"] = z_labels(n_qubits, count)
        elif readout not in {"rank_one", "z_diagonal"}:
            raise ValueError(f"'{readout}' is no readout: take rank_one, z_diagonal, or Pauli strings such as [IZ, ZI]")
        return kept

    @field_validator("family")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value != "ry_tree":
            from qiskit_qff.circuit.ansatz import find_ansatz  # Qiskit takes a second

            try:
                find_ansatz(value)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return value


class LossConfig(ConfigSection):
    """Error scales and weights of the loss."""

    energy_scale_mev_per_atom: float = Field(default=3.0, gt=0.0, description="energy error that counts as one unit")
    force_scale_mev_per_ang: float = Field(
        default=100.0, gt=0.0, description="force error that counts as one unit; a lower one favours forces"
    )
    element_weights: dict[str, float] = Field(
        default_factory=dict,
        description="factors on the weight of each element's forces, e.g. {Li: 3} for the few that move, {Zn: 0.5} for "
        "noisy labels; else 1",
    )
    stress_scale_mev_per_ang3: float | None = Field(
        default=None,
        gt=0.0,
        description="stress error that counts as one unit, for frames that have stresses; null: they are not fitted",
    )
    shots: int | None = Field(
        default=40_000,
        ge=1,
        description="assumed shots per setting; adds the expected shot noise to the loss; null adds none",
    )

    @field_validator("element_weights")
    @classmethod
    def _known_elements(cls, value: dict[str, float]) -> dict[str, float]:
        for symbol, number in value.items():
            if symbol not in atomic_numbers:
                raise ValueError(f"'{symbol}' is not a chemical element")
            if not 0.0 <= number < math.inf:
                raise ValueError(f"the weight of {symbol} must be finite and not negative, got {number}")
        return value


class EstimatorConfig(ConfigSection):
    """Training whose losses and gradients a backend measures; without a backend they are computed."""

    backend: str | None = Field(default=None, description="exact, statevector, aer, fake_NAME or ibm_NAME")
    shots: int | None = Field(default=None, ge=1, description="shots per measurement setting; none for exact values")
    mitigation: str = Field(default="none", description="error mitigation preset")
    options: dict[str, Any] | None = Field(
        default=None,
        description="options of the runtime's Estimator, for example {dynamical_decoupling: {enable: true}}",
    )
    mode: Literal["job", "session"] = Field(
        default="job", description="on IBM devices: a session keeps a step's jobs from waiting in the queue each"
    )
    optimizer: OptimizerName = Field(
        default="gauss_newton", description="gauss_newton, or adam of qiskit-machine-learning"
    )
    steps: int = Field(
        default=10, ge=1, description="most steps of the optimiser; gauss_newton needs about 5, adam hundreds"
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0.0,
        description="radians a step for adam; default 0.05, from a warm start 0.01",
    )
    start: Literal["scratch", "exact"] = Field(
        default="scratch", description="angles to begin with: random ones, or the computed solution"
    )


class TrainConfig(ConfigSection):
    """Everything that decides a training run."""

    data: DataConfig = DataConfig()
    descriptor: DescriptorConfig = DescriptorConfig()
    circuit: CircuitConfig = CircuitConfig()
    loss: LossConfig = LossConfig()
    estimator: EstimatorConfig = EstimatorConfig()
    max_parameters: int = Field(
        default=99,
        ge=3,
        le=1000,
        description="limit on all trainable parameters together; above 99 it is beyond what the package claims",
    )
    seed: int = Field(default=0, ge=0, description="seed of the split, the starts and simulated shots")

    @model_validator(mode="after")
    def _readout_fits_family(self) -> Self:
        circuit = self.circuit
        if circuit.family == "ry_tree" and circuit.readout != "rank_one":
            raise ValueError(
                "circuit.family 'ry_tree' has circuit.readout 'rank_one'; choose another family for Pauli strings"
            )
        if circuit.readout != "rank_one":
            from qiskit_qff.circuit.ansatz import check_pauli_labels

            try:
                check_pauli_labels(circuit.readout, circuit.n_qubits)
            except ConfigError as error:
                raise ValueError(f"circuit.readout: {error}") from None
        return self


class ResolvedData(DataConfig):
    """How frames are held out, decided."""

    split: SplitName


class ResolvedDescriptor(DescriptorConfig):
    """Size and reach of the channel pool, decided."""

    r_cut: float
    n_radial: int
    products: int


class ResolvedConfig(TrainConfig):
    """A configuration in which nothing is left to the data any more."""

    data: ResolvedData
    descriptor: ResolvedDescriptor


def load_config(path: str | Path) -> TrainConfig:
    """Read and check a YAML file; relative paths in it start at its directory.

    Raises:
        ConfigError: If it can't be read, is no mapping, or has unknown keys or impossible values.
    """
    return with_absolute_paths(parse_config(read_yaml(path), where=str(path)), Path(path).parent)


def with_absolute_paths(config: TrainConfig, start: Path) -> TrainConfig:
    """The same configuration with paths that mean the same from every directory."""

    def absolute(path: str) -> str:
        return path if is_shipped(path) else str((start / path).absolute())

    given = config.data.path
    paths = None if given is None else absolute(given) if isinstance(given, str) else [absolute(path) for path in given]
    return config.model_copy(update={"data": config.data.model_copy(update={"path": paths})})


def parse_config(data: Any, *, where: str, options: Mapping[str, str] | None = None) -> TrainConfig:
    """Check a configuration that is already a mapping."""
    return parse_section(TrainConfig, data, where=where, options=options)
