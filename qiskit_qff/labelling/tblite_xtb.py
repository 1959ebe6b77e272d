"""GFN1-xTB and GFN2-xTB through tblite, which is imported here alone."""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from qiskit_qff.errors import MissingDependencyError
from qiskit_qff.labelling.labels import Label, from_exception
from qiskit_qff.labelling.options import TbliteOptions
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.labels import symmetric_tensor


@dataclass(frozen=True)
class TbliteLabeller:
    """tblite with its settings.

    References:
        GFN1-xTB: https://doi.org/10.1021/acs.jctc.7b00118; GFN2-xTB: https://doi.org/10.1021/acs.jctc.8b01176
    """

    options: TbliteOptions
    """Settings."""

    @property
    def name(self) -> str:
        """Name of the calculator."""
        return "tblite"

    @property
    def level(self) -> str:
        """The Hamiltonian."""
        return self.options.method

    @property
    def settings_hash(self) -> str:
        """Short hash of all settings that the labels depend on."""
        return self.options.hashed(self.name)

    def check(self) -> None:
        """Refuse where tblite is not installed.

        Raises:
            MissingDependencyError: then.
        """
        if find_spec("tblite") is None:
            raise MissingDependencyError("tblite is not installed. It comes with: pip install 'qiskit_qff[label]'.")

    def label(self, frame: Frame, directory: Path) -> Label:  # noqa: ARG002 - the protocol's signature; nothing to write
        """Energy, forces and, with three periods, stress of one frame.

        Raises:
            LabelError: if the SCF does not converge, or tblite refuses.
        """
        from ase import Atoms
        from tblite.ase import TBLite
        from tblite.library import get_version

        atoms = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        parameters = self.options.model_dump()
        atoms.calc = TBLite(verbosity=0, **parameters)
        try:
            energy = float(atoms.get_potential_energy())
        except Exception as error:  # noqa: BLE001 - tblite raises its own and ASE's errors for whatever goes wrong
            raise from_exception(self.name, error) from None
        results = atoms.calc.results
        stress = symmetric_tensor(results["stress"], name="stress", where="tblite") if frame.pbc.all() else None
        version = "tblite " + ".".join(str(part) for part in get_version())
        described = json.dumps([parameters, frame.symbols, frame.positions.tolist(), frame.cell.tolist()])
        return Label(
            energy=energy,
            forces=np.array(results["forces"], dtype=np.float64),
            stress=stress,
            version=version,
            input_hash=hashlib.sha256(described.encode()).hexdigest(),
            columns={"mulliken_charges": np.array(results["charges"], dtype=np.float64)},
        )
