"""Forces that a device measured, beside the exact ones (``device.json``)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from qiskit_qff.array_types import FloatArray
from qiskit_qff.durable import read_json, write_atomically
from qiskit_qff.errors import DataError
from qiskit_qff.evaluators.protocol import Cost
from qiskit_qff.model.metrics import MEV_PER_EV, mean_absolute, root_mean_square
from qiskit_qff.report.figures import INK, PALETTE, STYLE, new_figure
from qiskit_qff.report.page import Panel, Part, Section
from qiskit_qff.report.record import reading

DEVICE = "device.json"
FORMAT, FORMAT_VERSION = "qiskit_qff device forces", 1


@dataclass(frozen=True, eq=False)
class DeviceForces:
    """Forces of one frame, measured in one way, beside the exact ones of the same model."""

    name: str  # what was done to the noise, in a few words
    exact: FloatArray  # by linear algebra, shape ``(n_atoms, 3)``, in eV/Å
    forces: FloatArray  # as measured
    std_errors: FloatArray  # as reported
    cost: Cost

    @property
    def deviations(self) -> FloatArray:
        """Measured less exact, shape ``(n_atoms, 3)``, in meV/Å."""
        return MEV_PER_EV * (self.forces - self.exact)

    @property
    def mae(self) -> float:
        """Mean absolute deviation of the components in meV/Å."""
        return mean_absolute(self.deviations)

    @property
    def std_error(self) -> float:
        """Root mean square of the reported standard errors in meV/Å."""
        return MEV_PER_EV * root_mean_square(self.std_errors)

    @property
    def covered(self) -> float:
        """Fraction of components within two reported standard errors: 0.95 where shot noise is all there is."""
        return float(np.mean(np.abs(self.deviations) <= 2.0 * MEV_PER_EV * self.std_errors))

    def to_dict(self) -> dict[str, str | float | int]:
        """Plain numbers for JSON."""
        return {
            "measurement": self.name,
            "force_mae_mev_per_ang": self.mae,
            "std_error_mev_per_ang": self.std_error,
            "within_two_std_errors": self.covered,
            "circuits": self.cost.circuits,
            "shots": self.cost.shots,
            "estimated_seconds": self.cost.seconds,
        }


def write_device_forces(directory: Path, measured: Sequence[DeviceForces], *, text: str) -> None:
    """Keep the same forces, measured in several ways, as ``device.json``, rounded to 0.1 meV/Å."""
    entries = [
        {
            "name": entry.name,
            "cost": asdict(entry.cost),
            **{name: np.round(getattr(entry, name), 4).tolist() for name in ("exact", "forces", "std_errors")},
        }
        for entry in measured
    ]
    content = {"format": FORMAT, "version": FORMAT_VERSION, "text": [text], "measurements": entries}
    write_atomically(directory / DEVICE, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")


def device_part(directory: Path) -> Part | None:
    """Table and figure of measured forces; None where there are none."""
    if not (path := directory / DEVICE).is_file():
        return None
    with reading(path, remedy="Delete it to do without its figures."):
        told = read_json(path)
        if (told["format"], told["version"]) != (FORMAT, FORMAT_VERSION):
            raise DataError(f"{path}: {told['format']} of version {told['version']} can't be read. Upgrade qiskit_qff.")
        measured = [
            DeviceForces(
                name=str(one["name"]),
                cost=Cost(**one["cost"]),
                **{key: np.array(one[key], dtype=float).reshape(-1, 3) for key in ("exact", "forces", "std_errors")},
            )
            for one in told["measurements"]
        ]
        text = tuple(map(str, told["text"]))
    caption = "How far measured force components are off the exact ones, with the reported standard errors as bars."
    title, data = "Forces on a noisy device", {"text": text, "measured": measured}
    panel = Panel("device_parity", caption, device_figure(measured))
    return Part("device", title, (Section(title, "device.html", data, (panel,)),))


@rc_context(STYLE)
def device_figure(measured: Sequence[DeviceForces]) -> Figure:
    """Deviations of measured force components over the exact ones, with the reported standard errors."""
    figure, axes = new_figure()
    for colour, entry in zip(PALETTE, measured, strict=False):
        label = f"{entry.name}: MAE {entry.mae:.0f} meV/Å"
        places, errors = (entry.exact.ravel(), entry.deviations.ravel()), MEV_PER_EV * entry.std_errors.ravel()
        axes.errorbar(*places, yerr=errors, fmt="o", ms=2.5, elinewidth=0.6, color=colour, alpha=0.5, label=label)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set(xlabel="exact force component (eV/Å)", ylabel="measured − exact (meV/Å)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
    return figure
