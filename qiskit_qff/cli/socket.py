"""``qff socket``: the force field as a client of i-PI, or of any program that speaks its protocol."""

from typing import Annotated

import typer

from qiskit_qff.cli.options import JsonOption, ModelArgument, model_file
from qiskit_qff.cli.output import Output
from qiskit_qff.cli.walls import FenceOption, fenced_or_not
from qiskit_qff.errors import ConfigError

_PORT = 31415


def socket(
    model: ModelArgument,
    structure: Annotated[
        str, typer.Argument(metavar="STRUCTURE", help="File with the server's atoms, in its order; or 'shipped'.")
    ],
    *,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help=f"Of the server; default {_PORT}.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where the server runs.")] = "localhost",
    unix: Annotated[
        str | None, typer.Option("--unix", help="Name of a UNIX socket instead: <address> in i-PI's input.")
    ] = None,
    frame: Annotated[int, typer.Option("--frame", help="Which frame of STRUCTURE, from 0; -1 is the last.")] = -1,
    wait: Annotated[float, typer.Option("--wait", min=0.0, help="Seconds to wait for the server to listen.")] = 60.0,
    fence: FenceOption = None,
    json: JsonOption = False,
) -> None:
    """Send energies, forces and virials to i-PI, ASE's SocketIOCalculator or another server, until it is done."""
    from qiskit_qff.cli.md import read_structure
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.simulation.calculator import QFFCalculator
    from qiskit_qff.simulation.socket import Address, serve
    from qiskit_qff.structures.species import species_index

    output = Output(as_json=json)
    if unix is not None and port is not None:
        raise ConfigError("--port and --unix: give one of them.")
    start = read_structure(structure, frame)
    field = ForceField.load(model_file(model))
    species_index(start.numbers, field.species, where=start.where)
    atoms = start.to_atoms()
    potential = fenced_or_not(field, fence, output)
    fence = potential is not field
    atoms.calc = QFFCalculator(potential)
    address = Address(host, _PORT if port is None else port, unix)
    output.note(f"{len(atoms)} atoms for the server at {address}")
    with output.progress("evaluating") as advance:
        served = serve(atoms, address, patience=wait, progress=lambda count: advance(f"{count} structures", 0.0))
    output.say(f"{served.evaluations} structures evaluated in {served.seconds:.1f} s; the server is done")
    output.finish(
        {"evaluations": served.evaluations, "seconds": served.seconds, "address": str(address), "fence": fence}
    )
