"""CP2K: one run of the program per frame, beginning with the wavefunction of the last frame of the same atoms."""

import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from qiskit_qff.errors import ConfigError, MissingDependencyError
from qiskit_qff.labelling.cp2k_input import PREVIOUS, PROJECT, cp2k_input
from qiskit_qff.labelling.cp2k_output import last_words, read_output
from qiskit_qff.labelling.labels import RUN, Label, LabelError
from qiskit_qff.labelling.options import Cp2kOptions, short_hash
from qiskit_qff.structures.frame import Frame

VARIABLE = "QFF_CP2K"
"""Environment variable with the command that starts CP2K."""
BINARIES = ("cp2k.psmp", "cp2k.popt", "cp2k.ssmp", "cp2k.sopt", "cp2k")
"""Names that CP2K goes by."""


@dataclass(frozen=True)
class Cp2kLabeller:
    """CP2K with its settings."""

    options: Cp2kOptions
    """Settings."""

    @property
    def name(self) -> str:
        """Name of the calculator."""
        return "cp2k"

    @property
    def level(self) -> str:
        """The level of theory in a few words."""
        dispersion = "" if self.options.dispersion == "none" else f"-{self.options.dispersion}"
        return f"PBE{dispersion}/{self.options.basis} {self.options.cutoff:g} Ry"

    @property
    def settings_hash(self) -> str:
        """Short hash of all settings that the labels depend on."""
        return self.options.hashed(self.name)

    def check(self) -> None:
        """Refuse where there is no CP2K.

        Raises:
            MissingDependencyError: if no binary is found.
            ConfigError: if the command given names none.
        """
        self.command()

    def command(self) -> list[str]:
        """How to start CP2K.

        Raises:
            MissingDependencyError: if no binary is found.
            ConfigError: if the command given names none.
        """
        given = self.options.command or os.environ.get(VARIABLE)
        if given:
            words = shlex.split(given)
            if not words or shutil.which(words[0]) is None:
                raise ConfigError(
                    f"CP2K command {given!r}: {words[0] if words else ''!r} is not there or can't be run."
                )
            return words
        found = next((path for path in map(shutil.which, BINARIES) if path), None)
        if found is None:
            raise MissingDependencyError(
                f"CP2K is not installed: none of {', '.join(BINARIES)} was found. On Debian: apt-get install cp2k "
                f"cp2k-data. Or name the command: {VARIABLE}='mpiexec -n 4 cp2k.psmp', or 'command' in --options."
            )
        return [found]

    def label(self, frame: Frame, directory: Path) -> Label:
        """Energy, forces and stress of one frame; a wavefunction that leads nowhere is tried again without.

        Raises:
            LabelError: if the calculation fails.
        """
        saved = directory / f"{_wavefunction_key(frame, self.options)}.wfn"
        if self.options.reuse_wavefunction and saved.exists():
            try:
                return self._run(frame, directory, saved, guess="previous")
            except LabelError as failure:
                # A wavefunction of a distant geometry may trap the minimiser; superposed atoms may not.
                if failure.kind not in {"not-converged", "crash"}:
                    raise
                saved.unlink(missing_ok=True)
        return self._run(frame, directory, saved, guess="atomic")

    def _run(self, frame: Frame, directory: Path, saved: Path, *, guess: str) -> Label:
        """One run of the program.

        Raises:
            LabelError: if it fails.
        """
        place = directory / RUN
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        text = cp2k_input(frame, self.options, from_previous=guess == "previous")
        (place / f"{PROJECT}.inp").write_text(text, encoding="utf-8")
        if guess == "previous":
            shutil.copyfile(saved, place / PREVIOUS)
        output = place / f"{PROJECT}.out"
        command = [*self.command(), "-i", f"{PROJECT}.inp", "-o", output.name]
        with (place / "stderr").open("wb") as errors:
            code = subprocess.run(command, cwd=place, stdout=errors, stderr=errors, check=False).returncode  # noqa: S603
        printed = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        if code != 0:
            errors_text = (place / "stderr").read_text(encoding="utf-8", errors="replace")
            raise LabelError("crash", f"CP2K ended with exit code {code}: {last_words(printed or errors_text)}")
        result = read_output(printed, frame.symbols, with_stress=self.options.stress)
        wavefunction = place / f"{PROJECT}-RESTART.wfn"
        if wavefunction.exists():
            wavefunction.replace(saved)
        return Label(
            energy=result.energy,
            forces=result.forces,
            stress=result.stress,
            version=result.version,
            input_hash=hashlib.sha256(text.encode()).hexdigest(),
            columns={} if result.charges is None else {"mulliken_charges": result.charges},
            tags={"label_guess": guess, "label_scf_iterations": result.n_scf},
        )


def _wavefunction_key(frame: Frame, options: Cp2kOptions) -> str:
    """Which frames share a wavefunction's shape: the same atoms in the same order, the same basis, charge and spin."""
    return short_hash(
        [frame.symbols, options.basis, options.basis_of, options.valence_of, options.charge, options.multiplicity]
    )
