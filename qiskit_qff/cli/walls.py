"""Walls around the training data on the command line: the option, and what it makes of a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.output import Output

if TYPE_CHECKING:
    from qiskit_qff.model.fence import FencedForceField
    from qiskit_qff.model.force_field import ForceField

FenceOption = Annotated[
    bool | None,
    typer.Option(
        "--fence/--no-fence",
        help="Walls around the training data, which are not felt inside; default: where the model file knows how far "
        "training reached.",
    ),
]


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
