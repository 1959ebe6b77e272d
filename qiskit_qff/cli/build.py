"""``qff build``: systems to simulate or to label, from a crystal structure."""

import typer

from qiskit_qff.cli.build_copies import example, rattle, strain, supercell
from qiskit_qff.cli.build_sites import insert, order, vacancies

build = typer.Typer(
    name="build",
    help="Build systems: supercells, ions in pores, vacancies, ordered, strained and rattled structures.",
    no_args_is_help=True,
)
for _command in (example, supercell, order, insert, vacancies, strain, rattle):
    build.command(_command.__name__)(_command)
