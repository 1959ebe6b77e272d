"""CP2K's input against the recipe of the shipped data, and real outputs of CP2K 2023.1 (cut to what is read)."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from qiskit_qff.labelling.cp2k_input import cp2k_input, valence_electrons
from qiskit_qff.labelling.cp2k_output import BOHR, HARTREE, mulliken_charges, read_output, total_energies
from qiskit_qff.labelling.labels import LabelError
from qiskit_qff.labelling.options import Cp2kOptions
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.shipped import read_shipped

OUTPUTS = Path(__file__).parent / "outputs"
GOOD = (OUTPUTS / "h2_2023.1.out").read_text()


def settings(text: str) -> dict[str, str]:
    """Every keyword of an input under the path of its sections; coordinates and comments left out."""
    found, path = {}, []
    for line in (raw.strip() for raw in text.splitlines()):
        if line.startswith("&END"):
            path.pop()
        elif line.startswith("&"):
            path.append(line[1:].split()[0] if not line.startswith("&KIND") else line[1:])
            if len(line.split()) > 1 and not line.startswith("&KIND"):
                found["/".join(path)] = line.split()[1]
        elif line and not line.startswith("!") and path[-1] != "COORD":
            key, _, value = line.partition(" ")
            found["/".join([*path, key])] = _plain(value)
    return found


def _plain(value: str) -> str:
    try:
        return " ".join(f"{float(word):g}" for word in value.split())
    except ValueError:
        return value


def test_the_input_is_the_recipe_of_the_shipped_data() -> None:
    recipe = settings((files("qiskit_qff") / "data" / "limof5_cp2k.inp").read_text())
    mine = settings(cp2k_input(read_shipped()[0], Cp2kOptions(max_outer_scf=4), from_previous=False))
    shared = {
        key for key in recipe if key.startswith("FORCE_EVAL") and "PRINT" not in key and "EXTRAPOLATION" not in key
    }
    assert {key: mine.get(key) for key in shared} == {key: recipe[key] for key in shared}
    added = {key for key in mine if key.startswith("FORCE_EVAL") and "PRINT" not in key} - shared
    assert added == {
        "FORCE_EVAL/DFT/CHARGE",
        "FORCE_EVAL/DFT/MULTIPLICITY",
    }
    assert mine["GLOBAL/RUN_TYPE"] == "ENERGY_FORCE"
    assert valence_electrons(read_shipped()[0].symbols, Cp2kOptions()) == 480  # as the data card says


def test_the_previous_wavefunction_is_named_alike_everywhere() -> None:
    frame = read_shipped()[0]
    text = cp2k_input(frame, Cp2kOptions(), from_previous=True)
    assert settings(text)["FORCE_EVAL/DFT/WFN_RESTART_FILE_NAME"] == "previous.wfn"
    assert settings(text)["FORCE_EVAL/DFT/SCF/SCF_GUESS"] == "RESTART"
    coordinates = re.search(r"&COORD\n(.*?)&END COORD", text, re.DOTALL)[1].split("\n")[:-1]
    assert len(coordinates) == 110
    assert np.array([line.split()[1:] for line in coordinates], dtype=float) == pytest.approx(frame.positions)


def test_odd_electrons_are_spin_polarised_and_impossible_spins_refused() -> None:
    lithium = Frame(numbers=[3], positions=[[0, 0, 0]], cell=np.eye(3) * 5.0, pbc=[True] * 3)
    found = settings(cp2k_input(lithium, Cp2kOptions(), from_previous=False))
    assert (found["FORCE_EVAL/DFT/MULTIPLICITY"], found["FORCE_EVAL/DFT/UKS"]) == ("2", "T")
    found = settings(cp2k_input(lithium, Cp2kOptions(charge=1), from_previous=False))
    assert (found["FORCE_EVAL/DFT/MULTIPLICITY"], found["FORCE_EVAL/DFT/CHARGE"]) == ("1", "1")
    assert "FORCE_EVAL/DFT/UKS" not in found
    with pytest.raises(LabelError, match="impossible for 3 electrons"):
        cp2k_input(lithium, Cp2kOptions(multiplicity=1), from_previous=False)


def test_options_reach_the_input_and_what_is_unknown_is_refused() -> None:
    lanthanum = Frame(numbers=[57], positions=[[0, 0, 0]], cell=np.eye(3) * 5.0, pbc=[True] * 3)
    with pytest.raises(LabelError, match=r"valence_of \{La"):
        cp2k_input(lanthanum, Cp2kOptions(), from_previous=False)
    options = Cp2kOptions(valence_of={"La": 11}, basis_of={"La": "DZVP-X"}, dispersion="none", smooth_xc=False)
    text = cp2k_input(lanthanum, options, from_previous=False)
    assert "POTENTIAL GTH-PBE-q11" in text
    assert "BASIS_SET DZVP-X" in text
    assert not re.search("VDW_POTENTIAL|XC_GRID|STRESS", text)
    slab = Frame(numbers=[1], positions=[[0, 0, 0]], cell=np.eye(3) * 5.0, pbc=[True, True, False])
    with pytest.raises(LabelError, match="for three periods"):
        cp2k_input(slab, Cp2kOptions(), from_previous=False)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, None),
        ({"stress": True}, "300 Ry with smooth_xc: the pressure"),
        ({"stress": True, "smooth_xc": False}, "300 Ry: the pressure"),
        ({"stress": True, "smooth_xc": False, "cutoff": 1200.0}, None),
    ],
)
def test_stresses_are_asked_for_and_coarse_grids_are_told(given, told) -> None:
    options = Cp2kOptions(**given)
    text = cp2k_input(read_shipped("li6ps5cl")[0], options, from_previous=False)
    assert ("STRESS_TENSOR ANALYTICAL" in text) == options.stress
    assert (options.caution() is None) == (told is None)
    assert told is None or told in options.caution()


def test_a_real_output_is_read_in_the_packages_units() -> None:
    result = read_output(GOOD, ["H", "H"], with_stress=True)
    assert result.energy == pytest.approx(-1.169159714090243 * 27.211386245988)
    assert result.forces[0] == pytest.approx(
        np.array([0.016084252872, 0.009823764314, 0.017176560528]) * HARTREE / BOHR
    )
    # CP2K prints -3.545 GPa for xx: under tension by its sign, so positive in ASE's.
    assert result.stress[0, 0] == pytest.approx(3.54528138856 / 160.21766208)
    assert result.stress[1, 2] == pytest.approx(0.588790300527 / 160.21766208)
    assert result.charges == pytest.approx([-9e-6, 9e-6])
    assert result.version == "CP2K 2023.1 git:b888bd8"
    assert result.n_scf == 9


def test_tables_of_newer_versions_are_read_alike() -> None:
    """The layout since CP2K 2025, as its users' parsers quote it; no such version was at hand to make one."""
    old = read_output(GOOD, ["H", "H"], with_stress=True)
    rows = re.findall(r"^\s+\d\s+1\s+H\s+(\S+)\s+(\S+)\s+(\S+)$", GOOD, re.MULTILINE)
    table = [" FORCES| Atomic forces [hartree/bohr]", " FORCES|   Atom     x    y    z    |f|"]
    table += [
        f" FORCES|      {k + 1} {' '.join(f'{float(x):.12E}' for x in row)} 1.0E-02" for k, row in enumerate(rows)
    ]
    table += [" FORCES| Sum     2.4E-06 -1.4E-05 2.2E-05"]
    text = re.sub(
        r"^ ATOMIC FORCES.*?^ SUM OF ATOMIC FORCES[^\n]*", "\n".join(table), GOOD, flags=re.MULTILINE | re.DOTALL
    )
    text = text.replace("energy [a.u.]: ", "energy [hartree] ")
    text = re.sub(r"\[GPa\]", "[bar]", text)
    text = re.sub(r"(STRESS\|\s+[xyz]\s+.*E[+-])(\d\d)", r"\g<1>\2", text)
    new = read_output(text, ["H", "H"], with_stress=True)
    assert new.forces == pytest.approx(old.forces)
    assert new.energy == old.energy
    assert new.stress == pytest.approx(old.stress * 1e-4)  # the same digits, now taken for bar


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda t: t.replace("PROGRAM ENDED AT", ""), "crash", "did not end"),
        (lambda t: t[: t.index("*** SCF run converged")], "crash", "before the SCF converged"),
        (lambda _: "", "crash", "no output at all"),
        (lambda t: t.replace("0.016084252872", "*" * 14), "not-finite", "1 readable forces for 2"),
        (lambda t: t.replace("0.016084252872", "           NaN"), "not-finite", "1 readable forces for 2"),
        (lambda t: t.replace("-1.169159714090243", "NaN"), "error", "0 total energies"),
        (lambda t: t.replace("ATOMIC FORCES", "FORCES"), "error", "0 tables of forces"),
        (lambda t: t + t, "error", "2 total energies"),
        (lambda t: t.replace("-3.54528138856E+00", "*" * 18), "error", "0 readable stress"),
        (lambda t: t.replace("1      1      H ", "1      1      He"), "error", "not those of the input"),
    ],
)  # fmt: skip
def test_anything_missing_is_a_failure(change, kind, words) -> None:
    with pytest.raises(LabelError) as caught:
        read_output(change(GOOD), ["H", "H"], with_stress=True)
    assert caught.value.kind == kind
    assert words in caught.value.message


def test_real_failures_are_told_apart() -> None:
    with pytest.raises(LabelError, match="NOT converged") as caught:
        read_output((OUTPUTS / "h2_not_converged.out").read_text(), ["H", "H"], with_stress=True)
    assert caught.value.kind == "not-converged"
    with pytest.raises(LabelError, match="requested basis set <NOPE> for element <H> was not found") as caught:
        read_output((OUTPUTS / "h2_abort.out").read_text(), ["H", "H"], with_stress=True)
    assert caught.value.kind == "crash"


def test_energies_and_charges_of_several_evaluations() -> None:
    assert total_energies(GOOD + GOOD) == [-1.169159714090243] * 2
    assert mulliken_charges(GOOD, 3) is None
