"""``qff build insert``, ``vacancies`` and ``order``: structures that differ in which sites are filled."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_qff.cli.build_output import (
    CountOption,
    FileOption,
    FrameOption,
    OverwriteOption,
    StructureArgument,
    SymprecOption,
    read_structure,
    refuse_overwriting,
    write_built,
)
from qiskit_qff.cli.options import JsonOption, SeedOption
from qiskit_qff.cli.output import Output
from qiskit_qff.errors import ConfigError

if TYPE_CHECKING:
    from qiskit_qff.structures.building.configurations import Choices
    from qiskit_qff.structures.building.pore_sites import SiteOrbit


def insert(
    structure: StructureArgument,
    *,
    out: FileOption,
    number: Annotated[
        list[int], typer.Option("--number", min=1, help="Ions per cell: the loading; repeat it for several loadings.")
    ],
    ion: Annotated[str, typer.Option("--ion", help="Element to put in.")] = "Li",
    count: CountOption = 10,
    sites: Annotated[
        str, typer.Option("--sites", help="Where places come from: grid, voronoi (pockets), or both.")
    ] = "both",
    kinds: Annotated[
        int, typer.Option("--kinds", min=1, help="Kinds of places to use, those with most contacts first.")
    ] = 4,
    least: Annotated[
        list[str] | None,
        typer.Option("--least", help="Least distance from an element in Å, such as O=1.8; repeatable."),
    ] = None,
    apart: Annotated[float, typer.Option("--apart", min=0.0, help="Least distance between two ions in Å.")] = 3.0,
    reach: Annotated[
        float,
        typer.Option("--reach", min=0.05, help="Atoms this much farther than the least distance are contacts, Å."),
    ] = 0.6,
    spacing: Annotated[float, typer.Option("--spacing", min=0.3, help="Distance between kinds of places in Å.")] = 1.0,
    grid: Annotated[float, typer.Option("--grid", min=0.05, help="Distance between grid points in Å.")] = 0.35,
    symprec: SymprecOption = 0.01,
    frame: FrameOption = 0,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Put ions into the pores of a framework, in ways that differ by symmetry."""
    import numpy as np
    from ase.data import chemical_symbols

    from qiskit_qff.structures.building.insertion import find_places, insert_ions
    from qiskit_qff.structures.building.perturbations import parse_amounts
    from qiskit_qff.structures.building.pore_sites import SiteRules, least_distances

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    if sites not in {"grid", "voronoi", "both"}:
        raise ConfigError(f"--sites {sites!r}: expected grid, voronoi or both.")
    if ion not in chemical_symbols[1:]:
        raise ConfigError(f"--ion {ion!r}: this is no chemical element. Name one, such as Li or Na.")
    given = read_structure(structure, frame, output)
    distances = least_distances(given, ion, parse_amounts(least or [], what="--least"))
    rules = SiteRules(least=distances, reach=reach, spacing=spacing, grid=grid, kind=sites)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    places = find_places(given, rules, kinds=kinds, symprec=symprec)
    _tell_orbits(places.orbits, places.symmetry.name, output)
    done = [insert_ions(places, ion, n, apart=apart, count=count, rng=rng) for n in number]
    for insertion in done:
        _tell_choices(insertion.choices, insertion.note, output)
    write_built(
        [built for insertion in done for built in insertion.frames],
        out,
        output,
        settings={"build_seed": seed},
        extra={
            "space_group": places.symmetry.name,
            "sites": [
                {"multiplicity": orbit.multiplicity, "contacts": orbit.contacts, "nearest_ang": orbit.nearest}
                for orbit in places.orbits
            ],
            "n_kinds_of_choices": [insertion.choices.n_kinds for insertion in done],
            "charge_notes": [insertion.note for insertion in done],
            "seed": seed,
        },
    )


def vacancies(
    structure: StructureArgument,
    *,
    out: FileOption,
    remove: Annotated[
        list[str], typer.Option("--remove", help="How many atoms of an element, such as Li=2; repeatable.")
    ],
    count: CountOption = 10,
    apart: Annotated[float, typer.Option("--apart", min=0.0, help="Least distance between vacancies in Å.")] = 0.0,
    symprec: SymprecOption = 0.01,
    frame: FrameOption = 0,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Take atoms out of a crystal, in ways that differ by symmetry."""
    import numpy as np

    from qiskit_qff.structures.building.perturbations import parse_amounts
    from qiskit_qff.structures.building.vacancies import remove_atoms

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    amounts = parse_amounts(remove, what="--remove")
    removed = {element: round(amount) for element, amount in amounts.items()}
    for element, amount in amounts.items():
        if amount != removed[element] or amount < 1:
            raise ConfigError(f"--remove {element}={amount:g}: expected a whole number of atoms, at least 1.")
    given = read_structure(structure, frame, output)
    rng = np.random.default_rng(seed)
    removal = remove_atoms(given, removed, apart=apart, count=count, rng=rng, symprec=symprec)
    output.say(f"space group  {removal.space_group}")
    _tell_choices(removal.choices, removal.note, output)
    extra = _choices_for_json(removal.choices, removal.space_group, seed) | {"charge_note": removal.note}
    write_built(removal.frames, out, output, settings={"build_seed": seed}, extra=extra)


def order(
    structure: StructureArgument,
    *,
    out: FileOption,
    count: CountOption = 1,
    apart: Annotated[
        float, typer.Option("--apart", min=0.0, help="Least distance between atoms on partly occupied sites in Å.")
    ] = 1.5,
    symprec: SymprecOption = 0.01,
    seed: SeedOption = 0,
    force: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Make ordered structures of a CIF file with partly occupied sites."""
    import numpy as np

    from qiskit_qff.structures.building.ordering import order_sites, read_cif

    output = Output(as_json=json)
    refuse_overwriting(out, force=force)
    average, notes = read_cif(structure)
    for note in notes:
        output.note(f"{structure}: {note}")
    rng = np.random.default_rng(seed)
    done = order_sites(average, apart=apart, count=count, rng=rng, symprec=symprec, source=str(structure))
    output.say(f"space group  {done.space_group} (average structure)")
    for words in done.groups:
        output.say(f"group        {words}")
    _tell_choices(done.choices, "", output)
    extra = _choices_for_json(done.choices, done.space_group, seed) | {"groups": done.groups}
    write_built(done.frames, out, output, settings={"build_seed": seed}, extra=extra)


def _tell_orbits(orbits: "tuple[SiteOrbit, ...]", space_group: str, output: Output) -> None:
    """The kinds of places there are."""
    output.say(f"space group  {space_group}")
    rows = [(k, orbit.multiplicity, orbit.n_contacts, orbit.contacts) for k, orbit in enumerate(orbits)]
    output.table("places", ("kind", "per cell", "contacts", "atoms and mean distances (Å)"), rows)


def _tell_choices(choices: "Choices", note: str, output: Output) -> None:
    """How many ways there are, and what they mean for the charge."""
    if choices.n_kinds is None:
        output.say(f"choices      {len(choices.chosen)} drawn at random, pairwise different by symmetry")
    else:
        output.say(f"choices      {len(choices.chosen)} of {choices.n_kinds} that differ by symmetry")
    if note:
        output.note(f"charge: {note}")


def _choices_for_json(choices: "Choices", space_group: str, seed: int) -> dict[str, Any]:
    """The same for other programs."""
    return {
        "space_group": space_group,
        "n_kinds_of_choices": choices.n_kinds,
        "all_choices_written": choices.complete,
        "seed": seed,
    }
