"""Walls around the training data on the command line: the option, and what it makes of a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.model.fence import FencedForceField
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.calculator import Potential

FenceOption = Annotated[
    bool | None,
    typer.Option(
        "--fence/--no-fence",
        help="Walls around the training data, which are not felt inside; default: where the model file knows how far "
        "training reached, on the processor.",
    ),
]


def choose_potential(
    field: "ForceField", fence: bool | None, device: str, precision: str, output: Output
) -> "tuple[Potential, bool]":
    """What gives the forces, and whether it has walls; says where there are none that nobody declined.

    Args:
        field: the model.
        fence: as given on the command line.
        device: where it is evaluated.
        precision: numbers there.
        output: where to say it.

    Raises:
        ConfigError: if walls are asked for where there are none.
    """
    from qiskit_qff.model.accelerator.engine import on_device
    from qiskit_qff.model.fence import FencedForceField

    if device != "cpu" and fence:
        raise ConfigError(f"--fence: walls are there on the processor only, not on {device!r}.")
    if device != "cpu" and fence is None:
        output.note(f"no walls around the training data: they are there on the processor only, not on {device!r}")
    walls = fenced_or_not(field, fence if device == "cpu" else False, output)
    if isinstance(walls, FencedForceField):
        return walls, True
    return on_device(field, device, precision=precision), False


def fenced_or_not(field: "ForceField", fence: bool | None, output: Output) -> "ForceField | FencedForceField":
    """The force field with or without walls, as told, or as the model file can; says so.

    Args:
        field: the model.
        fence: as given on the command line.
        output: where to say it.

    Raises:
        ConfigError: if walls are asked of a model that does not know where it was trained.
    """
    from qiskit_qff.model.fence import FencedForceField, within_walls

    if fence is not None:
        return FencedForceField.of(field) if fence else field
    potential = within_walls(field)
    if potential is field:
        output.note("no walls around the training data: the model file is from before them")
    return potential
