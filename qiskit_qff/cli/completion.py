"""What a shell offers after an option: the words that the option takes, in one table for all verbs.

Shells are taught by ``qff --install-completion``. Every press of the tab key starts ``qff``, so the words stand here
and are not looked up in the modules that check them; a test compares the two.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import get_args, get_type_hints

import typer
from typer.models import OptionInfo

FIXED: dict[str, tuple[str, ...]] = {
    "--barostat": ("isotropic", "full"),
    "--calculator": ("cp2k", "tblite", "emt", "espresso", "gpaw", "vasp"),
    "--design": ("auto", "first_column", "pairs", "signed_pairs"),
    "--ensemble": ("nve", "nvt", "npt"),
    "--mitigation": ("none", "readout", "zne", "pec"),
    "--on-extrapolation": ("warn", "save", "stop"),
    "--optimizer": ("adam", "l_bfgs_b", "spsa"),
    "--split": ("balanced", "block", "none", "random"),
    "--strategy": ("density", "environment", "operator"),
    "--thermostat": ("bussi", "langevin", "nose-hoover"),
}
"""Words of options that take one of a few, by the option."""
BACKENDS = ("exact", "statevector", "aer", "fake_", "ibm_")
"""Beginnings of the names of backends; fake devices are listed once ``fake_`` is there."""


def backends(incomplete: str) -> list[str]:
    """Backends whose names begin like this.

    Args:
        incomplete: What was typed so far.
    """
    if not incomplete.startswith("fake_"):
        return [name for name in BACKENDS if name.startswith(incomplete)]
    from qiskit_qff.evaluators.backends import fake_backend_names

    return [name for name in fake_backend_names() if name.startswith(incomplete)]


def complete_options(function: Callable[..., None] | typer.Typer) -> None:
    """Tell typer what the options of a verb can be completed to.

    Args:
        function: The verb, or a group of them.
    """
    if isinstance(function, typer.Typer):
        for command in function.registered_commands:
            if command.callback is not None:
                complete_options(command.callback)
        return
    for option in options_of(function):
        for name in names_of(option):
            if name == "--backend":
                option.autocompletion = backends
            elif name in FIXED:
                option.autocompletion = _completer(FIXED[name])


def options_of(function: Callable[..., None]) -> Iterator[OptionInfo]:
    """The options in a verb's signature.

    Args:
        function: The verb.
    """
    for hint in get_type_hints(function, include_extras=True).values():
        yield from (entry for entry in get_args(hint) if isinstance(entry, OptionInfo))


def names_of(option: OptionInfo) -> list[str]:
    """An option's names, such as ``--split``.

    Args:
        option: The option.
    """
    # In an Annotated hint the first name stands where a default would.
    first = [option.default] if isinstance(option.default, str) else []
    return [name for name in (*first, *(option.param_decls or ())) if name.startswith("-")]


def _completer(words: Sequence[str]) -> Callable[[str], list[str]]:
    """Completes to some words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete
