"""The calculator that labels, by name: CP2K, tblite, any other of ASE, or a Python callable that returns one."""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory
from typing import Any

from ase.calculators.calculator import BadConfiguration, CalculatorError, get_calculator_class
from ase.calculators.names import names

from qiskit_qff.durable import read_yaml
from qiskit_qff.errors import ConfigError, MissingDependencyError
from qiskit_qff.labelling.cp2k import Cp2k, Cp2kOptions

EXECUTION = frozenset({"command", "verbosity", "cache_api", "max_iterations"})
"""Settings that only decide how a program starts, what it prints, and whether it ends; labels do not depend on them."""
XTB: Mapping[str, Any] = {"method": "GFN1-xTB", "verbosity": 0, "cache_api": False}
"""Defaults of tblite. Without its cache, ``reset`` makes every SCF begin anew: the order of frames does not matter."""


@dataclass(frozen=True)
class Reference:
    """A calculator and its settings; made anew in each process that labels."""

    name: str
    """As on the command line."""
    level: str
    """The level of theory in a few words."""
    settings: Mapping[str, Any]
    """All settings that the labels depend on."""
    make: Callable[[Path], Any]
    """Makes the ASE calculator that works in a directory; can be pickled."""

    @property
    def settings_hash(self) -> str:
        """``h`` and 16 hexadecimal digits that identify calculator and settings.

        The letter keeps readers of extended XYZ from taking the digits for a number.
        """
        text = json.dumps({"calculator": self.name, **self.settings}, sort_keys=True, default=str)
        return "h" + hashlib.sha256(text.encode()).hexdigest()[:16]

    def start(self, directory: Path) -> Any:
        """Make the calculator."""
        try:
            calculator = self.make(directory)
        except (CalculatorError, BadConfiguration, OSError, ValueError) as error:
            raise ConfigError(
                f"--calculator {self.name}: can't be set up ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}). Correct its --options, or the environment that ASE expects "
                "for it."
            ) from None
        if not hasattr(calculator, "get_potential_energy"):
            raise ConfigError(f"--calculator {self.name}: gives {type(calculator).__name__}, not an ASE calculator.")
        return calculator

    def check(self) -> None:
        """Make the calculator once, only to see that it can be made."""
        with TemporaryDirectory() as directory:
            self.start(Path(directory))


def reference(name: str, options: Path | Mapping[str, Any] | None = None, *, where: str = "--options") -> Reference:
    """The calculator of a name.

    Args:
        name: ``cp2k``, ``tblite``, the name of any other calculator in ASE, or ``package.module:factory`` for a Python
            callable (a class, too) that returns an ASE calculator.
    """
    if isinstance(options, Path):
        where = f"{where} {options}"
        options = read_yaml(options, where=where)
    if options is not None and not isinstance(options, Mapping):
        raise ConfigError(f"{where}: expected 'key: value' lines, found {type(options).__name__}.")
    given = dict(options or {})
    if name == "cp2k":
        chosen = Cp2kOptions.parse(given, where=where)
        settings = chosen.model_dump(mode="json", exclude=set(chosen.execution))
        return Reference(name, chosen.level, settings, partial(Cp2k, chosen))
    factory = _factory(name)
    if name == "tblite":
        given = {**XTB, **given}
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise ConfigError(f"{where}: does not fit --calculator {name} ({error}).") from None
    settings = {key: value for key, value in given.items() if key not in EXECUTION}
    words = json.dumps(settings, sort_keys=True, default=str)
    level = str(given["method"]) if name == "tblite" else f"{name} {words if len(words) < 120 else f'{words[:117]}...'}"
    return Reference(name, level, settings, partial(_make, factory, given))


def _factory(name: str) -> Callable[..., Any]:
    """The class or callable of a name."""
    if name == "tblite" and find_spec("tblite") is None:
        raise MissingDependencyError("tblite is not installed. It comes with: pip install 'qiskit_qff[label]'.")
    if ":" in name and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # a file in the current directory, as for 'python -m'
    place = "tblite.ase:TBLite" if name == "tblite" else name
    try:
        found = resolve_name(place) if ":" in place else get_calculator_class(place)
    except (ImportError, AttributeError, KeyError, ValueError) as error:
        known = ", ".join(sorted({*names, "tblite"}))
        raise ConfigError(
            f"--calculator {name!r}: unknown, or not installed ({error}). Known: {known}; or package.module:factory, a "
            "Python callable that returns an ASE calculator."
        ) from None
    if not callable(found):
        raise ConfigError(f"--calculator {name!r}: is {type(found).__name__}, not a callable.")
    factory: Callable[..., Any] = found
    return factory


def _make(factory: Callable[..., Any], options: Mapping[str, Any], _directory: Path) -> Any:
    """The calculator of a class or callable."""
    return factory(**options)
