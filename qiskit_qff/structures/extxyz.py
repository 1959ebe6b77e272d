"""Extended XYZ, the usual form of ab initio data, read frame by frame as it streams in.

A frame is a line with the number of atoms, a line of ``key=value`` pairs, and one line per atom whose
columns the key ``Properties`` names, for example ``species:S:1:pos:R:3:forces:R:3``. Plain XYZ is the case
without pairs.

PERF: ASE's reader notes every frame's place and then seeks to it; a compressed file has to be unpacked anew
from the start at each seek. On 800 frames of 83 atoms (.xz) that took 75 s against 0.5 s here.

References:
    https://github.com/libAtoms/extxyz describes the format.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from ase import units
from ase.data import atomic_masses, atomic_numbers

from qiskit_qff.array_types import BoolArray, FloatArray, IntArray
from qiskit_qff.errors import DataError
from qiskit_qff.structures.frame import Frame, scalar_tags
from qiskit_qff.structures.labels import FORCE_NAMES, find_labels

_PAIR = re.compile(
    r"""(?P<key>"[^"]*"|[^\s="']+)\s*
        (?:=\s*(?P<value>"(?:\\.|[^"\\])*" | '[^']*' | \{[^}]*\} | \[(?:[^\[\]]|\[[^\]]*\])*\] | \S+))?""",
    re.VERBOSE,
)
_TRUTH = {"T": True, "True": True, "TRUE": True, "true": True}
_TRUTH |= {"F": False, "False": False, "FALSE": False, "false": False}
_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
_MOMENTA = "momenta"
_VELOCITIES = "vel"  # of LAMMPS, in units metal: Å/ps


@dataclass(frozen=True)
class Columns:
    """Which columns of an atom's line hold what."""

    width: int
    """Number of columns."""
    species: int
    """Column of the chemical symbol or atomic number."""
    reals: Mapping[str, int]
    """First of three columns, for ``pos``, ``momenta``, ``vel`` and every kind of forces."""


def parse_extxyz(lines: Iterator[str], source: str) -> Iterator[Frame]:
    """Frames of an extended XYZ file.

    Args:
        lines: the file's lines.
        source: its name, for messages and for ``Frame.source``.

    Raises:
        DataError: if a line doesn't fit the format; names frame, line and atom.
    """
    line_number, index = 0, 0
    for head in lines:
        line_number += 1
        if not head.strip():
            continue
        where = f"{source}, frame {index}"
        n_atoms = _atom_count(head, f"{where}, line {line_number}")
        comment = next(lines, None)
        rows = list(islice(lines, n_atoms))
        if comment is None or len(rows) < n_atoms:
            raise DataError(
                f"{where}: {n_atoms} atoms announced in line {line_number}, but the file ends after "
                f"{len(rows)} of them. The file is cut short: copy it again, or remove this last frame."
            )
        yield _frame(comment, rows, source=source, index=index, line_number=line_number + 2)
        line_number += n_atoms + 1
        index += 1


def parse_header(comment: str) -> dict[str, Any]:
    """The ``key=value`` pairs of a frame's second line; a key without a value is true."""
    pairs: dict[str, Any] = {}
    for match in _PAIR.finditer(comment):
        key, value = match["key"].strip('"'), match["value"]
        pairs[key] = True if value is None else _value(value)
    return pairs


def _atom_count(head: str, where: str) -> int:
    """The number of atoms that a frame begins with.

    Raises:
        DataError: if the line holds anything else.
    """
    if head.strip().isdecimal() and int(head) > 0:
        return int(head)
    raise DataError(
        f"{where}: expected the number of atoms, found {head.strip()[:60]!r}. Either this is no extended XYZ "
        "file, or the frame before has more or fewer atom lines than it announces."
    )


def _frame(comment: str, rows: list[str], *, source: str, index: int, line_number: int) -> Frame:
    """One frame from its second line and its atom lines; line_number is that of the first atom."""
    where = f"{source}, frame {index}"
    header = parse_header(comment)
    by_lower = {key.lower(): key for key in header}
    lattice = header.pop(by_lower.get("lattice", ""), None)
    pbc = header.pop(by_lower.get("pbc", ""), lattice is not None)
    columns = _columns(str(header.pop(by_lower.get("properties", ""), _DEFAULT_PROPERTIES)), where)
    numbers, arrays = _atom_block(rows, columns, where, line_number)
    cell = np.zeros((3, 3)) if lattice is None else _lattice(lattice, where)
    volume = abs(float(np.linalg.det(cell))) if np.all(pbc) else float("nan")
    labels = find_labels(header, arrays, volume=volume, where=where)
    return Frame(
        numbers=numbers,
        positions=arrays["pos"],
        cell=cell,
        pbc=_periods(pbc, where),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        momenta=_momenta(numbers, arrays),
        source=source,
        index=index,
        tags=scalar_tags({key: value for key, value in header.items() if key not in labels.used}),
    )


def _momenta(numbers: IntArray, arrays: Mapping[str, FloatArray]) -> FloatArray | None:
    """Momenta in ASE's units, as they are or from LAMMPS's velocities."""
    if _MOMENTA in arrays or _VELOCITIES not in arrays:
        return arrays.get(_MOMENTA)
    momenta: FloatArray = arrays[_VELOCITIES] * atomic_masses[numbers][:, None] / (1e3 * units.fs)
    return momenta


def _columns(properties: str, where: str) -> Columns:
    """Meaning of the columns from ``name:type:count`` triples.

    Raises:
        DataError: if the triples are malformed, or species or positions are missing.
    """
    parts = properties.split(":")
    species, start = None, 0
    reals: dict[str, int] = {}
    for name, kind, count in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        width = int(count) if count.isdecimal() else 0
        if kind not in set("SRIL") or width < 1:
            break
        lower = {"positions": "pos", "position": "pos"}.get(name.lower(), name.lower())
        if lower in {"species", "symbols", "element"} or (lower in {"z", "numbers"} and species is None):
            species = start
        elif width == 3 and (lower in {"pos", _MOMENTA, _VELOCITIES} or lower in FORCE_NAMES):
            reals[lower] = start
        start += width
    else:
        if len(parts) % 3 == 0 and species is not None and "pos" in reals:
            return Columns(width=start, species=species, reals=reals)
    raise DataError(
        f"{where}: Properties={properties!r} should be name:type:count triples with at least species:S:1 and "
        "pos:R:3, for example species:S:1:pos:R:3:forces:R:3. Correct the frame's second line."
    )


def _atom_block(
    rows: list[str], columns: Columns, where: str, line_number: int
) -> tuple[IntArray, dict[str, FloatArray]]:
    """Atomic numbers and the real columns of all atoms.

    PERF: the whole block is split and converted at once; only if that fails are its lines looked at one by
    one.

    Raises:
        DataError: if a line has another number of columns, an unknown element or no number where one is due.
    """
    tokens = "".join(rows).split()
    if len(tokens) == len(rows) * columns.width:
        try:
            numbers = [_atomic_number(name) for name in tokens[columns.species :: columns.width]]
            arrays = {
                name: np.array([tokens[start + axis :: columns.width] for axis in range(3)], dtype=np.float64).T
                for name, start in columns.reals.items()
            }
        except (KeyError, ValueError):
            pass
        else:
            return np.array(numbers, dtype=np.int64), arrays
    for atom, row in enumerate(rows):
        _check_row(row.split(), columns, f"{where}, atom {atom} (line {line_number + atom})")
    raise DataError(f"{where}: the atom lines can't be read. Check that each atom has one line.")


def _check_row(tokens: list[str], columns: Columns, where: str) -> None:
    """Find out what is wrong with one atom's line.

    Raises:
        DataError: if anything is.
    """
    if len(tokens) != columns.width:
        raise DataError(
            f"{where}: {len(tokens)} columns, but Properties announces {columns.width}. "
            "Correct the line, or Properties in the frame's second line."
        )
    try:
        _atomic_number(tokens[columns.species])
    except KeyError:
        raise DataError(
            f"{where}: {tokens[columns.species]!r} is no chemical element. Correct the symbol, "
            "or the order of columns in Properties."
        ) from None
    for name, start in columns.reals.items():
        for token in tokens[start : start + 3]:
            try:
                float(token)
            except ValueError:
                raise DataError(
                    f"{where}: {token!r} under {name!r} is no number. Correct it, or the order of columns in "
                    "Properties."
                ) from None


def _atomic_number(name: str) -> int:
    """Atomic number of a symbol, or of the number itself.

    Raises:
        KeyError: if it is neither.
    """
    if name in atomic_numbers:
        return int(atomic_numbers[name])
    if name.isdecimal():
        return int(name)
    return int(atomic_numbers[name.capitalize()])


def _value(text: str) -> Any:
    """A header value: a truth value, a number, an array of either, or a string."""
    quoted = text[0] in "\"'"
    text = text[1:-1].replace('\\"', '"') if quoted or text[0] in "{[" else text
    words = text.replace("[", " ").replace("]", " ").replace(",", " ").split()
    if words and all(word in _TRUTH for word in words):
        truths = [_TRUTH[word] for word in words]
        return truths[0] if len(truths) == 1 else truths
    for kind in (int, float):
        try:
            values = [kind(word) for word in words]
        except ValueError:
            continue
        if values:
            return values[0] if len(values) == 1 else values
    return text


def _lattice(value: Any, where: str) -> FloatArray:
    """Cell vectors as rows.

    Raises:
        DataError: unless there are nine numbers.
    """
    if isinstance(value, list) and len(value) == 9 and not isinstance(value[0], bool):
        return np.array(value, dtype=np.float64).reshape(3, 3)
    raise DataError(
        f'{where}: Lattice should be nine numbers, "ax ay az bx by bz cx cy cz" in Å, found {value!r}. '
        "Correct it, or remove it for a structure without periods."
    )


def _periods(value: Any, where: str) -> BoolArray:
    """One truth value per direction.

    Raises:
        DataError: if there are neither one nor three, or they are no truth values.
    """
    periods = np.atleast_1d(np.asarray(value))
    if periods.size in {1, 3} and periods.dtype.kind in "bi":
        return np.broadcast_to(periods.astype(np.bool_), (3,))
    raise DataError(f'{where}: pbc should be three truth values such as "T T F", found {value!r}.')
