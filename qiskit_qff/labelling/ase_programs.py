"""Any calculator of ASE by name: EMT and other built-in ones, or programs such as VASP and Quantum ESPRESSO."""

import hashlib
import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.labels import RUN, Label, LabelError, from_exception
from qiskit_qff.labelling.options import AseOptions
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.labels import symmetric_tensor

_SHELL = re.compile(r"""[;&|$()`"'\\\n]|\bPATH=""")
"""What only a shell can make sense of."""
_ASSIGNMENT = re.compile(r"\w+=\S*")
_BUILTIN = frozenset({"cd", "command", "eval", "exec", "ml", "module", "set", "source", ".", "time", "ulimit", "umask"})
"""Words at the head of a command that are the shell's own, or often are."""


@dataclass(frozen=True)
class AseLabeller:
    """A calculator of ASE with its keyword arguments."""

    name: str
    """Its name in ASE, such as ``vasp``, ``espresso``, ``gpaw``, ``emt``."""
    options: AseOptions
    """Keyword arguments, and how to start the program."""

    @property
    def level(self) -> str:
        """The keyword arguments in short."""
        words = json.dumps(self.options.parameters, sort_keys=True, default=str)
        return f"{self.name} {words}" if len(words) < 120 else f"{self.name} {words[:117]}..."

    @property
    def settings_hash(self) -> str:
        """Short hash of all settings that the labels depend on."""
        return self.options.hashed(self.name)

    def check(self) -> None:
        """Refuse an unknown name, settings that the calculator does not take, or a program that is not there.

        Raises:
            ConfigError: then.
        """
        try:
            command = _command_of(self._calculator(Path()))
        except ConfigError:
            raise
        except Exception as error:  # noqa: BLE001 - every calculator has its own ways to refuse
            raise ConfigError(
                f"--calculator {self.name}: can't be set up ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}). "
                "Correct its options ('parameters', 'profile'), or the environment that ASE expects for it."
            ) from None
        program = _program_of(command)
        if "/" in program and not Path(program).is_absolute():
            raise ConfigError(
                f"--calculator {self.name}: its command is {command!r}, but each frame is computed in a directory of "
                f"its own. Name the program by its whole path, such as {Path(program).resolve()}."
            )
        if program and shutil.which(program) is None:
            raise ConfigError(
                f"--calculator {self.name}: its command is {command!r}, but there is no program {program!r} on PATH. "
                "Install it, or correct the command in its options or in the environment."
            )

    def label(self, frame: Frame, directory: Path) -> Label:
        """Energy (extrapolated to zero smearing where the program does), forces and, with three periods, stress.

        Raises:
            LabelError: if the calculation fails.
        """
        from ase import Atoms
        from ase.calculators.calculator import PropertyNotImplementedError

        place = directory / RUN
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        stress = None
        try:
            atoms.calc = self._calculator(place)
            energy = float(atoms.get_potential_energy())
            forces = np.array(atoms.get_forces(), dtype=np.float64)
            if frame.pbc.all() and "stress" in atoms.calc.implemented_properties:
                stress = symmetric_tensor(atoms.get_stress(), name="stress", where=self.name)
        except PropertyNotImplementedError as error:
            raise LabelError("error", f"{self.name} does not compute {error}") from None
        except Exception as error:  # noqa: BLE001 - programs fail in their own ways; the message is kept
            raise from_exception(self.name, error) from None
        if getattr(atoms.calc, "converged", None) is False:  # ASE's VASP says so and raises nothing
            raise LabelError("not-converged", f"{self.name}: the calculation did not converge")
        described = json.dumps(
            [self.name, self.options.parameters, frame.symbols, frame.positions.tolist(), frame.cell.tolist()],
            default=str,
        )
        return Label(
            energy=energy,
            forces=forces,
            stress=stress,
            version=_version(self.name, atoms.calc),
            input_hash=hashlib.sha256(described.encode()).hexdigest(),
        )

    def _calculator(self, place: Path) -> Any:
        """The calculator, working in a directory of its own.

        Raises:
            ConfigError: if ASE knows none of that name.
        """
        from ase.calculators.calculator import get_calculator_class
        from ase.calculators.genericfileio import GenericFileIOCalculator
        from ase.calculators.names import names

        try:
            kind = get_calculator_class(self.name)
        except (ImportError, AttributeError, KeyError) as error:
            known = ", ".join(sorted({*names, "tblite", "cp2k"}))
            raise ConfigError(
                f"--calculator {self.name!r}: unknown, or not installed ({error}). Known: {known}."
            ) from None
        arguments = dict(self.options.parameters)
        if self.options.profile:
            profile = getattr(sys.modules[kind.__module__], f"{kind.__name__}Profile", None)
            if profile is None:
                raise ConfigError(f"--calculator {self.name}: takes no 'profile'; put its keywords into 'parameters'.")
            arguments["profile"] = profile(**self.options.profile)
        if issubclass(kind, GenericFileIOCalculator) or _works_in_files(kind):
            arguments["directory"] = str(place)
        return kind(**arguments)


def _command_of(calculator: Any) -> str:
    """The command that a calculator will start; empty where it starts none, or does not tell.

    Raises:
        CalculatorSetupError: from VASP's, if it has none.
    """
    from ase.calculators.vasp import Vasp

    if isinstance(calculator, Vasp):
        return str(calculator.make_command(calculator.command))
    command = getattr(getattr(calculator, "profile", None), "command", None) or ""
    return command if isinstance(command, str) else shlex.join(command)


def _program_of(command: str) -> str:
    """The program at the head of a command; empty where it takes a shell to know."""
    words = [] if _SHELL.search(command.replace("2>&1", "")) else command.split()
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words.pop(0)
    return words[0] if words and words[0] not in _BUILTIN else ""


def _works_in_files(kind: type) -> bool:
    """Whether a calculator runs a program in a directory."""
    from ase.calculators.calculator import FileIOCalculator
    from ase.calculators.vasp import Vasp

    return issubclass(kind, (FileIOCalculator, Vasp))


def _version(name: str, calculator: Any) -> str:
    """Program and version where the calculator knows them, else ASE's."""
    from ase import __version__ as ase_version

    own = getattr(calculator, "version", None)
    if own is None and hasattr(getattr(calculator, "profile", None), "version"):
        try:
            own = calculator.profile.version()
        except Exception:  # noqa: BLE001 - a program that does not tell its version is still a program
            own = None
    return f"{name} {own} (ASE {ase_version})" if own else f"{name} (ASE {ase_version})"
