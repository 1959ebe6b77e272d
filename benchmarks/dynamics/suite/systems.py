"""The systems of `stability.py`: their frames, models, first structures, and how they are run."""

from dataclasses import dataclass, field

from qiskit_qff import train
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.framework import missing_bonds
from qiskit_qff.structures.reading import read_frames
from qiskit_qff.structures.shipped import NAMES, read_shipped

KINDS = ("nvt", "windows", "nve", "npt", "supercell")
COOL = {"temperature_K": 300.0}


@dataclass(frozen=True)
class System:
    """One system and how it is run."""

    temperature_k: float
    timestep_fs: float
    n_train: int | None = None
    has_reference: bool = False
    start_tags: dict[str, object] = field(default_factory=dict)
    """What frames are tagged with that runs may start from."""
    like: str | None = None
    """System whose frames serve, and its model where that is fitted to the same labels."""
    stress_scale: float | None = None
    """What stresses are fitted with, in meV/Å³; None: they are not."""
    kinds: tuple[str, ...] = KINDS


SYSTEMS = {
    "lips83": System(520.0, 1.0, n_train=600, has_reference=True),
    "li6ps5cl": System(600.0, 1.0, has_reference=True),
    "uio66": System(300.0, 0.5),
    "limof5": System(300.0, 0.5, start_tags={"replica": "A"}),
    "limof5_li2": System(300.0, 0.5, start_tags=COOL | {"config_type": "li2mof5"}, like="limof5", kinds=("nvt",)),
    "limof5_li0": System(300.0, 0.5, start_tags=COOL | {"config_type": "mof5"}, like="limof5", kinds=("nvt",)),
    "li6ps5cl_stress": System(
        600.0, 1.0, has_reference=True, like="li6ps5cl", stress_scale=2.0, kinds=("nvt", "nve", "npt")
    ),
}


def frames_of(name, data):
    return read_shipped(name) if name in NAMES else read_frames(data / f"{name}.extxyz.xz")


def model_of(name, system, frames, work, *, options):
    """The trained model, kept from call to call."""
    path = work / f"{name}.json"
    if not path.exists():
        chosen, loss = frames[: system.n_train], {"stress_scale_mev_per_ang3": system.stress_scale}
        settings = options | {"data": {"split": "none"}, "loss": loss}
        train(chosen, parse_config(settings, where="benchmark")).force_field.save(path)
    return ForceField.load(path)


def starts_of(system, frames):
    """Frames that runs may start from: unrattled ones, of the state that is asked for, and whole."""
    asked, broken = system.start_tags.items(), missing_bonds(frames)
    return [
        f
        for k, f in enumerate(frames)
        if k not in broken and not f.tags.get("rattle") and all(f.tags.get(key) == value for key, value in asked)
    ]
