"""The force field as an ASE calculator, for molecular dynamics, relaxation and everything else in ASE.

Neighbours are found once and kept while no atom has moved by more than half the skin, so a step of a
simulation pays for the force field, not for the bookkeeping around it.

Units are ASE's: eV, Å, stress in eV/Å³ with ASE's sign (tension positive), Voigt order xx yy zz yz xz xy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from qiskit_qff.array_types import IntArray
from qiskit_qff.errors import ConfigError, DataError
from qiskit_qff.structures.frame import species_index
from qiskit_qff.structures.neighbors import NeighborList, VerletList

if TYPE_CHECKING:
    from qiskit_qff.model.force_field import ForceField
    from qiskit_qff.model.uncertainty import UncertaintyEstimator

#: Standard deviations of the energy (eV) and of the force components of each atom (eV/Å), and extrapolation grades:
#: :mod:`qiskit_qff.model.uncertainty`.
UNCERTAINTIES = ("energy_std", "force_std", "extrapolation_grade")
#: Two atoms closer than this sit on one site, in Å.
SAME_SITE = 0.01


class QFFCalculator(Calculator):
    """ASE calculator of a trained force field.

    Example:
        >>> atoms.calc = QFFCalculator("model.json")  # doctest: +SKIP
        >>> atoms.get_potential_energy()  # doctest: +SKIP
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", *UNCERTAINTIES]  # noqa: RUF012 (ASE's own form)

    def __init__(self, model: "str | Path | ForceField", *, skin: float = 1.0, uncertainty: bool = False) -> None:
        """Load or take over a force field.

        Args:
            model: model file, the directory that holds ``model.json``, or a force field.
            skin: in Å; neighbours up to ``cutoff + skin`` are kept from step to step.
            uncertainty: put :data:`UNCERTAINTIES` into the results of every calculation, which takes several times as
                long; otherwise they are computed where ``calc.get_property("force_std", atoms)`` asks for them.

        Raises:
            ModelFileError: if the file is missing, damaged or of a newer version.
        """
        super().__init__()
        if isinstance(model, (str, Path)):
            from qiskit_qff.model.force_field import ForceField

            model = ForceField.load(Path(model) / "model.json" if Path(model).is_dir() else Path(model))
        self.force_field: ForceField = model
        self._uncertainty = uncertainty
        self._estimator: UncertaintyEstimator | None = None
        self._verlet_list = VerletList(self.force_field.cutoff, skin)
        self._neighbors: NeighborList | None = None
        self._kept_atoms: Atoms | None = None
        self._known_numbers: IntArray = np.zeros(0, dtype=np.int64)

    @property
    def neighbors(self) -> NeighborList:
        """Neighbours in the last calculation; overwritten by the next one.

        Raises:
            DataError: if nothing was calculated yet.
        """
        if self._neighbors is None:
            raise DataError("no structure was calculated yet: ask for its energy first.")
        return self._neighbors

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Which of positions, numbers, cell and pbc differ at all from those of the last calculation.

        PERF: ASE's own comparison costs a quarter of a millisecond, twice a step; charges and magnetic
        moments, which it also compares, mean nothing here.
        """
        del tol
        if self.atoms is None:
            return list(all_changes)
        old: Any = self.atoms
        pairs = {
            "positions": (old.positions, atoms.positions),
            "numbers": (old.numbers, atoms.numbers),
            "cell": (old.cell.array, atoms.cell.array),
            "pbc": (old.pbc, atoms.pbc),
        }
        return [name for name, (before, now) in pairs.items() if not np.array_equal(before, now)]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] | None = None,
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate all properties of one structure; ASE calls this when the atoms have changed.

        Args:
            atoms: the structure.
            properties: only matters where one of :data:`UNCERTAINTIES` is asked for; all else comes out of one
                evaluation.
            system_changes: what changed since the last call, in ASE's words.

        Raises:
            DataError: for an element the model does not know, a position that is not finite, a periodic
                cell without volume, or two atoms on one site.
            ConfigError: where uncertainties are asked of a model without a posterior.
        """
        if system_changes or not self.results:
            self._evaluate(atoms, properties, system_changes)
        if self._uncertainty or not set(UNCERTAINTIES).isdisjoint(properties or ()):
            self._estimate()

    def _estimate(self) -> None:
        """Add uncertainties to the results."""
        if self._estimator is None:
            from qiskit_qff.model.force_field import ForceField

            if not isinstance(self.force_field, ForceField):
                raise ConfigError(f"{type(self.force_field).__name__} has no uncertainties; a ForceField does.")
            self._estimator = self.force_field.uncertainty()
        kinds = species_index(self._known_numbers, self.force_field.species, where="structure")
        found = self._estimator.evaluate(kinds, self.neighbors)
        values = (found.energy_std, found.force_std, found.grades.values)
        self.results |= dict(zip(UNCERTAINTIES, values, strict=True))

    def _evaluate(self, atoms: Atoms | None, properties: Sequence[str] | None, system_changes: Sequence[str]) -> None:
        """Energies, forces and stress of one structure."""
        if self._kept_atoms is not None and atoms is not None and list(system_changes) == ["positions"]:
            # PERF: ASE has dropped its copy; only the positions of ours are out of date.
            self._kept_atoms.positions[:] = atoms.positions
            self.atoms = self._kept_atoms
        else:
            super().calculate(atoms, properties, system_changes)
            self._kept_atoms = self.atoms
        structure: Any = self.atoms
        if not np.array_equal(structure.numbers, self._known_numbers):
            species_index(structure.numbers, self.force_field.species, where="structure")
            self._known_numbers = structure.numbers.copy()
        cell, pbc = structure.cell.array, structure.pbc
        self._neighbors = None  # none of an earlier structure, should this one be refused
        self._neighbors = self._verlet_list.update(structure.positions, cell, pbc)
        if self._neighbors.n_pairs and self._neighbors.distances.min() < SAME_SITE:
            pair = int(self._neighbors.distances.argmin())
            center = int(np.searchsorted(self._neighbors.first, pair, side="right")) - 1
            raise DataError(
                f"atoms {center} and {self._neighbors.neighbor[pair]} are {self._neighbors.distances[pair]:.2g} Å "
                "apart: two atoms on one site. Remove the duplicate, or check the cell."
            )
        prediction = self.force_field.evaluate(structure.numbers, self._neighbors)
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "energies": prediction.energies,
            "forces": prediction.forces,
        }
        if pbc.all():
            stress = prediction.virial / abs(np.linalg.det(cell))
            self.results["stress"] = stress.ravel()[[0, 4, 8, 5, 2, 1]]
