"""``qff build example``, ``supercell``, ``strain`` and ``rattle``: a crystal, more of it, and copies of it."""

from typing import TYPE_CHECKING, Annotated

import typer

from qiskit_qff.cli.build_output import (
    FileOption,
    FrameOption,
    OverwriteOption,
    StructureArgument,
    read_structure,
    read_structures,
    refuse_overwriting,
    write_built,
)
from qiskit_qff.cli.options import JsonOption, SeedOption
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.structures.frame import Frame

EveryFrame = Annotated[
    int | None, typer.Option("--frame", min=0, help="Copy only this frame of STRUCTURE, counted from 0; default all.")
]


def example(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mof5, uio66, li6ps5cl, lgps, li3ps4 or li7p3s11.")],
    *,
    out: FileOption,
    conventional: Annotated[
        bool, typer.Option("--conventional", help="The conventional cell instead of the primitive one.")
    ] = False,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Write a crystal built from its published space group and coordinates."""
    import numpy as np

    from qiskit_qff.structures.building.examples import example as build_example

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    frame = build_example(name, primitive=not conventional, rng=np.random.default_rng(seed))
    output.say(f"source       https://doi.org/{frame.tags['build_doi']}")
    write_built([frame], out, output, settings={"build_seed": seed}, extra={"doi": frame.tags["build_doi"]})


def supercell(
    structure: StructureArgument,
    *,
    out: FileOption,
    repeat: Annotated[
        str | None,
        typer.Option("--repeat", help="3 repeats, '2 2 1', or 9 integers, the new cell vectors in the old ones."),
    ] = None,
    min_size: Annotated[
        float | None, typer.Option("--min-size", min=0.1, help="Least distance between opposite faces in Å.")
    ] = None,
    min_atoms: Annotated[int | None, typer.Option("--min-atoms", min=1, help="Least number of atoms.")] = None,
    frame: FrameOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Repeat a crystal: by a matrix, to a smallest size in Å, or to a smallest number of atoms."""
    from qiskit_qff.structures.building.supercells import heights
    from qiskit_qff.structures.building.supercells import supercell as enlarge

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    given = read_structure(structure, frame, output)
    matrix = _matrix(given, repeat, min_size, min_atoms)
    built = enlarge(given, matrix)
    size = [round(float(height), 3) for height in heights(built.cell)]
    output.say(
        f"{given.n_atoms} atoms to {built.n_atoms}; opposite faces {', '.join(f'{h:.2f}' for h in size)} Å apart"
    )
    write_built([built], out, output, settings={}, extra={"matrix": matrix, "heights_ang": size})


def _matrix(frame: "Frame", repeat: str | None, min_size: float | None, min_atoms: int | None) -> list[int]:
    """The repeats, or all nine entries of the matrix, as three or nine integers, row by row.

    Raises:
        ConfigError: unless exactly one of the options is given, and sensibly.
    """
    from qiskit_qff.structures.building.supercells import repeats_for_atoms, repeats_for_size

    if sum(option is not None for option in (repeat, min_size, min_atoms)) != 1:
        raise ConfigError("supercell: give exactly one of --repeat, --min-size and --min-atoms.")
    if min_size is not None:
        return list(repeats_for_size(frame, min_size))
    if min_atoms is not None:
        return list(repeats_for_atoms(frame, min_atoms))
    words = (repeat or "").replace(",", " ").replace("x", " ").split()
    try:
        entries = [int(word) for word in words]
    except ValueError:
        entries = []
    if len(entries) not in {3, 9}:
        raise ConfigError(f"--repeat {repeat!r}: expected 3 or 9 integers, for example '2 2 1'.")
    return entries


def strain(
    structure: StructureArgument,
    *,
    out: FileOption,
    count: Annotated[int, typer.Option("--count", min=1, help="Copies of each frame.")] = 10,
    max_strain: Annotated[float, typer.Option("--max-strain", help="Largest component of the strain.")] = 0.03,
    mode: Annotated[
        str, typer.Option("--mode", help="all: six random components; shear: traceless; volume: equal steps.")
    ] = "all",
    frame: EveryFrame = None,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Copies whose cells are strained, with all atoms in them."""
    import numpy as np

    from qiskit_qff.structures.building.perturbations import strained

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    if mode not in {"all", "shear", "volume"}:
        raise ConfigError(f"--mode {mode!r}: expected all, shear or volume.")
    rng = np.random.default_rng(seed)
    built = [
        copy
        for given in _chosen(structure, frame, output)
        for copy in strained(given, count=count, largest=max_strain, mode=mode, rng=rng)  # type: ignore[arg-type]
    ]
    write_built(built, out, output, settings={"build_seed": seed}, extra={"seed": seed})


def rattle(
    structure: StructureArgument,
    *,
    out: FileOption,
    count: Annotated[int, typer.Option("--count", min=1, help="Copies of each frame.")] = 10,
    amplitude: Annotated[
        float, typer.Option("--amplitude", help="Standard deviation of the displacements in Å, per coordinate.")
    ] = 0.05,
    amplitude_of: Annotated[
        list[str] | None, typer.Option("--amplitude-of", help="The same for one element, such as H=0.03; repeatable.")
    ] = None,
    frame: EveryFrame = None,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Copies with normally distributed random displacements."""
    import numpy as np

    from qiskit_qff.structures.building.perturbations import parse_amounts, rattled

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    amplitudes = parse_amounts(amplitude_of or [], what="--amplitude-of")
    rng = np.random.default_rng(seed)
    built = [
        copy
        for given in _chosen(structure, frame, output)
        for copy in rattled(given, count=count, amplitude=amplitude, amplitudes=amplitudes, rng=rng)
    ]
    write_built(built, out, output, settings={"build_seed": seed}, extra={"seed": seed})


def _chosen(structure: StructureArgument, frame: int | None, output: Output) -> "list[Frame]":
    """The frame asked for, or all."""
    if frame is None:
        return read_structures(structure, output)
    return [read_structure(structure, frame, output)]
