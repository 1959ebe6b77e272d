"""One structure with its ab initio labels: the form in which all data enters the package.

Labels are found under the names that programs give them, whatever the case; the first one present wins. A *stress* is
in eV/Å³ with ASE's sign, ``σ = (1/V) dE/dε``; a *virial*, as GAP and NEP files store it, is in eV with the other sign,
``W = -V σ``. ``free_energy`` is only a fallback: programs that write both mean ``energy`` to be learnt.

:func:`species_of` and :func:`species_index` say which elements occur, and where each stands in a model's list.

:func:`frame_hash` tells whether a model has seen a frame before. Hashing rounded coordinates fails: of 300 coordinates
one is always about to round the other way. So the geometry is reduced to :data:`PROJECTIONS` numbers in Å, weighted
sums over all atoms of sines of the fractional coordinates (which do not change when an atom is moved by a lattice
vector), of positions across non-periodic directions, and of the cell. The hash is of these numbers in steps of
:data:`STEP`. Noise of 1e-6 Å in every coordinate changes them by at most 2e-5 Å, an atom moved by 0.01 Å by several
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256, shake_256
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

PROJECTIONS = 4
"""Numbers that a geometry is reduced to."""
STEP = 1e-3
"""Å; what they are rounded to."""
DIGITS = 16
"""Hexadecimal digits of a hash."""


def frame_hash(frame: Frame) -> str:
    """Hash of elements, periodicity, positions and periodic cell vectors; labels and tags do not count.

    Atoms moved by lattice vectors leave it unchanged, and so do files that keep 8 decimals, but for one frame in
    thousands (with 6 decimals: one in 100). It differs for another order of the atoms and for a frame that was rotated
    or moved as a whole.

    Args:
        frame: Finite positions and cell.

    Returns:
        16 hexadecimal digits.
    """
    steps = np.floor(_projections(frame) / STEP).astype(np.int64).tolist()
    text = f"{frame.numbers.tolist()} {frame.pbc.tolist()} {steps}"
    return sha256(text.encode()).hexdigest()[:DIGITS]


def _projections(frame: Frame) -> FloatArray:
    """The numbers a geometry is reduced to, shape ``(PROJECTIONS,)``, in Å."""
    cell = frame.cell[frame.pbc]
    fractional = frame.positions @ np.linalg.pinv(cell)
    across = frame.positions - fractional @ cell
    lengths = np.linalg.norm(cell, axis=1) / (2.0 * np.pi)
    sizes = [fractional.size, fractional.size, across.size, cell.size]
    result = np.empty(PROJECTIONS)
    for k in range(PROJECTIONS):
        phases, *weights = np.split(_uniform(sum(sizes), seed=k), np.cumsum(sizes)[:-1])
        turns = 2.0 * np.pi * (fractional.ravel() + phases)
        waves = np.sin(turns).reshape(fractional.shape) * lengths
        parts = zip(weights, (waves, across, cell), strict=True)
        result[k] = sum(float((2.0 * weight - 1.0) @ part.ravel()) for weight, part in parts)
    return result


def _uniform(count: int, *, seed: int) -> FloatArray:
    """Numbers in [0, 1) that are the same with every version of NumPy, unlike those of its generators."""
    stream = shake_256(f"qiskit_qff frame {seed}".encode()).digest(4 * count)
    return np.frombuffer(stream, dtype="<u4") / 2.0**32


def species_of(frames: Sequence[Frame]) -> tuple[int, ...]:
    """All atomic numbers in some frames, ascending."""
    return tuple(int(z) for z in np.unique(np.concatenate([np.unique(f.numbers) for f in frames])))


def species_index(numbers: IntArray, species: Sequence[int], *, where: str) -> IntArray:
    """Index of every atom's species in a model's list.

    Args:
        numbers: Atomic numbers, shape ``(n,)``.
    """
    known = np.asarray(species, dtype=np.int64)
    index = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    wrong = np.flatnonzero(known[index] != numbers)
    if len(wrong):
        atom = int(wrong[0])
        names = ", ".join(chemical_symbols[int(z)] for z in known)
        raise DataError(
            f"{where}, atom {atom}: element {chemical_symbols[int(numbers[atom])]} is unknown to the model, which was "
            f"trained on {names}; train on data that contains it."
        )
    return index


Tag = str | int | float | bool

ENERGY_NAMES = ("energy", "ref_energy", "dft_energy", "free_energy")
FORCE_NAMES = ("forces", "force", "ref_forces", "ref_force", "dft_forces", "dft_force")
STRESS_NAMES = ("stress", "ref_stress", "dft_stress")
VIRIAL_NAMES = ("virial", "virials", "ref_virial", "ref_virials", "dft_virial", "dft_virials")


@dataclass(frozen=True, eq=False)
class Frame:
    """Atoms, cell and what ab initio said about them; arrays are copied in and not to be written to.

    Raises:
        DataError: if shapes disagree, an element is unknown, or a periodic direction has no cell vector.
    """

    numbers: IntArray
    """Atomic numbers, shape ``(n_atoms,)``."""
    positions: FloatArray
    """Cartesian positions, shape ``(n_atoms, 3)``, in Å; need not lie inside the cell."""
    cell: FloatArray
    """Cell vectors as rows, shape ``(3, 3)``, in Å; zero rows where there is none."""
    pbc: BoolArray
    """Whether each cell vector is a period, shape ``(3,)``."""
    energy: float | None = None
    """Total energy in eV."""
    forces: FloatArray | None = None
    """Forces, shape ``(n_atoms, 3)``, in eV/Å."""
    stress: FloatArray | None = None
    """Symmetric stress, shape ``(3, 3)``, in eV/Å³, ASE's sign."""
    source: str = ""
    """The file the frame came from."""
    index: int = 0
    """Its place in that file, counted from 0."""
    tags: Mapping[str, Tag] = field(default_factory=dict)
    """Whatever else the file says about the frame in one word or number, for example ``replica``."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "numbers", np.array(self.numbers, dtype=np.int64).reshape(-1))
        n_atoms = len(self.numbers)
        set_field(self, "positions", self._array("positions", self.positions, (n_atoms, 3)))
        set_field(self, "cell", self._array("cell", self.cell, (3, 3)))
        set_field(self, "pbc", np.broadcast_to(np.asarray(self.pbc, dtype=np.bool_), (3,)).copy())
        if self.energy is not None:
            set_field(self, "energy", float(self.energy))
        if self.forces is not None:
            set_field(self, "forces", self._array("forces", self.forces, (n_atoms, 3)))
        if self.stress is not None:
            set_field(self, "stress", symmetric_tensor(self.stress, name="stress", where=self.where))
        set_field(self, "tags", dict(self.tags))
        self._check()

    def _array(self, name: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
        """A copy as float64 of the expected shape."""
        array = np.array(value, dtype=np.float64, order="C")
        if array.shape != shape:
            raise DataError(f"{self.where}: {name} should have shape {shape}, found {array.shape}.")
        return array

    def _check(self) -> None:
        """Refuse what no later step can mean anything by."""
        unknown = np.flatnonzero((self.numbers < 1) | (self.numbers > 118))
        if unknown.size:
            atom = int(unknown[0])
            raise DataError(
                f"{self.where}, atom {atom}: atomic number {self.numbers[atom]} is no element. "
                "Name a chemical element (1 to 118); dummy atoms can't be used."
            )
        missing = np.flatnonzero(self.pbc & ~self.cell.any(axis=1))
        if missing.size:
            axis = "abc"[int(missing[0])]
            raise DataError(
                f"{self.where}: periodic along {axis}, but cell vector {axis} is zero. "
                'Give the cell (Lattice="...") or switch the period off (pbc).'
            )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols, one per atom."""
        return [chemical_symbols[number] for number in self.numbers]

    @property
    def volume(self) -> float:
        """Volume of the cell in Å³; NaN (no meaning) unless all three directions are periodic."""
        return abs(float(np.linalg.det(self.cell))) if self.pbc.all() else float("nan")

    @property
    def where(self) -> str:
        """File and frame, as messages name them."""
        return f"{self.source or 'structure'}, frame {self.index}"

    @classmethod
    def from_atoms(cls, atoms: Atoms, *, source: str = "", index: int = 0) -> Self:
        """Frame from an ASE Atoms object with the results its calculator holds; nothing is calculated.

        Results that belong to other positions (a calculator not run again after a move) are ignored. Forces
        are taken as calculated, not with the zeros that ASE's constraints put in.

        Raises:
            DataError: if the labels have impossible shapes.
        """
        where = f"{source or 'structure'}, frame {index}"
        held = getattr(atoms.calc, "results", None)
        known = {} if not held or atoms.calc.check_state(atoms) else held
        names = ("energy", "free_energy", "forces", "stress")
        results = {name: known[name] for name in names if known.get(name) is not None}
        values = {**atoms.info, **{name: value for name, value in results.items() if name != "forces"}}
        arrays = {**atoms.arrays, **({"forces": results["forces"]} if "forces" in results else {})}
        cell, pbc = np.array(atoms.cell.array), np.array(atoms.pbc)
        volume = abs(float(np.linalg.det(cell))) if pbc.all() else float("nan")
        labels, used = _find_labels(values, arrays, volume=volume, where=where)
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=cell,
            pbc=pbc,
            source=source,
            index=index,
            tags=scalar_tags({name: value for name, value in values.items() if name not in used}),
            **labels,
        )

    def to_atoms(self) -> Atoms:
        """ASE Atoms; labels sit in a SinglePointCalculator, tags in ``info``."""
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.stress import full_3x3_to_voigt_6_stress

        atoms = Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.info.update(self.tags)
        labels = {"energy": self.energy, "forces": self.forces, "stress": self.stress}
        known = {name: value for name, value in labels.items() if value is not None}
        if self.stress is not None:
            known["stress"] = full_3x3_to_voigt_6_stress(self.stress)
        if known:
            atoms.calc = SinglePointCalculator(atoms, **known)
        return atoms


def scalar_tags(values: Mapping[str, Any]) -> dict[str, Tag]:
    """The entries that are one word, number or truth value, as plain Python; the rest is left out."""
    tags: dict[str, Tag] = {}
    for name, value in values.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, (str, int, float, bool)):
            tags[str(name)] = plain
    return tags


def _find_labels(
    values: Mapping[str, Any], arrays: Mapping[str, Any], *, volume: float, where: str
) -> tuple[dict[str, Any], set[str]]:
    """Energy, forces and stress among global values and per-atom arrays, and the names they were found under."""
    energy, stress, virial = (_first(names, values) for names in (ENERGY_NAMES, STRESS_NAMES, VIRIAL_NAMES))
    forces = _first(FORCE_NAMES, arrays)
    found: dict[str, Any] = {}
    if energy is not None:
        found["energy"] = _scalar(values[energy], name=energy, where=where)
    if forces is not None:
        found["forces"] = arrays[forces]
    if stress is not None:
        found["stress"] = symmetric_tensor(values[stress], name=stress, where=where)
    elif virial is not None and np.isfinite(volume) and volume > 0.0:
        found["stress"] = -symmetric_tensor(values[virial], name=virial, where=where) / volume
    return found, {name for name in (energy, forces, stress, virial) if name is not None}


def symmetric_tensor(value: Any, *, name: str, where: str) -> FloatArray:
    """Symmetric tensor, shape ``(3, 3)``, from 9 or 3 x 3 numbers, or 6 in Voigt order xx yy zz yz xz xy."""
    try:
        tensor = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        tensor = np.empty(0)
    if tensor.size == 6:
        xx, yy, zz, yz, xz, xy = tensor.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if tensor.size == 9:
        tensor = tensor.reshape(3, 3)
        return 0.5 * (tensor + tensor.T)
    raise DataError(
        f"{where}: {name!r} should be 9 numbers (3 x 3) or 6 (Voigt: xx yy zz yz xz xy), found {value!r}. "
        "Correct the value or remove the key."
    )


def _first(names: tuple[str, ...], available: Mapping[str, Any]) -> str | None:
    """The available key that matches the earliest of the names, whatever its case."""
    by_lower = {key.lower(): key for key in available if available[key] is not None}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _scalar(value: Any, *, name: str, where: str) -> float:
    """A single number."""
    try:
        return float(np.asarray(value, dtype=np.float64).reshape(()))
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: {name!r} should be one number in eV, found {value!r}. Correct it or remove the key."
        ) from None
