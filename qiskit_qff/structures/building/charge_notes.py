"""What adding or removing atoms means for electrons and charges: a note, never a silent decision."""

from collections.abc import Mapping

from ase.data import atomic_numbers

from qiskit_qff.structures.frame import Frame

ION_CHARGES: dict[str, int] = {
    "H": 1, "Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Ag": 1, "Mg": 2, "Ca": 2, "Zn": 2, "Al": 3,
    "F": -1, "Cl": -1, "Br": -1, "I": -1, "O": -2, "S": -2, "Se": -2, "Te": -2,
}  # fmt: skip
"""Charges of ions that have one usual charge."""


def insertion_note(frame: Frame, ion: str, number: int) -> str:
    """What the cell's electrons do when neutral atoms of an ion are put in."""
    charge = ION_CHARGES.get(ion)
    electrons = int(frame.numbers.sum()) + number * atomic_numbers[ion]
    if charge is None:
        balance = f"{number} neutral {ion} atoms were added"
    else:
        total = number * charge
        verb = "takes up" if total > 0 else "gives"
        balance = (
            f"{number} {ion} as ions carry {total:+d} e; the cell stays neutral, so the framework {verb} "
            f"{abs(total)} electron{'s' if abs(total) != 1 else ''}. If another charge is meant, say so to the "
            "reference calculation (option charge) or add counter-ions"
        )
    return f"{balance}. {_parity(electrons)}"


def removal_note(frame: Frame, removed: Mapping[str, int]) -> str:
    """What the cell's electrons do when neutral atoms are taken out."""
    words = " and ".join(f"{number} {element}" for element, number in removed.items())
    electrons = int(frame.numbers.sum()) - sum(atomic_numbers[element] * n for element, n in removed.items())
    known = [ION_CHARGES.get(element) for element in removed]
    if any(charge is None for charge in known):
        return f"{words} were removed as neutral atoms. {_parity(electrons)}"
    total = sum(int(charge or 0) * n for charge, n in zip(known, removed.values(), strict=True))
    if total == 0:
        return f"{words} were removed: together neutral, so the rest keeps its charges. {_parity(electrons)}"
    verb = "loses" if total > 0 else "gains"
    return (
        f"{words} were removed as neutral atoms; as ions they carried {total:+d} e, so the rest {verb} {abs(total)} "
        f"electron{'s' if abs(total) != 1 else ''}. For ionic vacancies give the reference calculation the charge "
        f"{-total:+d} (a charged cell), or remove ions that balance. {_parity(electrons)}"
    )


def _parity(electrons: int) -> str:
    """Whether all electrons can be paired."""
    if electrons % 2 == 0:
        return f"{electrons} electrons in all, even: a closed shell is possible"
    remedy = "label it with spin polarisation, or use an even number"
    return f"{electrons} electrons in all, odd: one stays unpaired, so {remedy}"
