"""Calculators by name, and the programs themselves: each label is what ASE gives when it is asked directly."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write

from qiskit_qff.cli.main import run
from qiskit_qff.errors import ConfigError
from qiskit_qff.labelling.cp2k import Cp2kOptions
from qiskit_qff.labelling.label import label_frames, single_point
from qiskit_qff.labelling.reference import reference
from qiskit_qff.structures.dataset import read_frames
from qiskit_qff.structures.frame import Frame

has_cp2k = pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="cp2k.psmp is not installed")


def silicon(number: int = 14) -> Frame:
    """Two atoms in a skewed primitive cell, displaced."""
    cell = 2.715 * np.array([[0.0, 1.0, 1.0], [1.0, 0.02, 1.0], [1.0, 1.0, 0.0]])
    return Frame(numbers=[number] * 2, positions=[[0, 0, 0], [1.40, 1.30, 1.38]], cell=cell, pbc=[True] * 3)


def check_derivatives(calculator, frame: Frame, label, *, step: float, rel: float) -> None:
    """Force and stress are derivatives of the energy, signs and units included, along one mixed displacement.

    The last atom moves along x by ``step`` while the cell is strained along y by as much, with all atoms in it.
    """
    energies = []
    for sign in (1.0, -1.0):
        move, strain = np.zeros((frame.n_atoms, 3)), np.eye(3)
        move[-1, 0] = sign * step
        strain[1, 1] += sign * step
        there = replace(frame, positions=(frame.positions + move) @ strain, cell=frame.cell @ strain)
        energies.append(single_point(calculator, there).get_potential_energy())
    by_force = -label.get_forces()[-1, 0]
    by_stress = label.get_stress(voigt=False)[1, 1] * frame.volume
    assert min(abs(by_force), abs(by_stress)) > 10.0 * rel * abs(by_force + by_stress)  # neither could hide
    assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(by_force + by_stress, rel=rel)


def tblite():
    pytest.importorskip("tblite", reason="tblite is not installed")
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0)


@pytest.mark.parametrize(
    ("name", "options", "element", "direct", "version"),
    [
        ("emt", {}, 79, EMT, "EMT (ase 3"),
        ("ase.calculators.lj:LennardJones", {"rc": 6.0}, 14, lambda: LennardJones(rc=6.0), "LennardJones (ase 3"),
        ("tblite", {}, 14, tblite, "TBLite (tblite 0"),
    ],
)
def test_labels_are_those_of_ase(tmp_path, name, options, element, direct, version) -> None:
    atoms = silicon(element).to_atoms()
    frames = [silicon(element), replace(silicon(element), positions=silicon().positions * 1.02)]
    report = label_frames(frames, reference(name, options), tmp_path / "out.extxyz")
    assert report.failures == ()
    for label, frame in zip(read_frames(tmp_path / "out.extxyz"), frames, strict=True):
        atoms.positions, atoms.calc = frame.positions, direct()
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert label.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
        assert label.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-7)
        assert str(label.tags["label_version"]).startswith(version)


def test_a_program_that_is_not_set_up_stops_the_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ASE_CONFIG_PATH", str(tmp_path / "none.ini"))
    for variable in ("ASE_VASP_COMMAND", "VASP_COMMAND", "VASP_SCRIPT"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="VASP_COMMAND"):
        label_frames([silicon()], reference("vasp"), tmp_path / "out.extxyz")
    assert not (tmp_path / "out.extxyz").exists()


def test_a_calculator_of_ones_own(tmp_path, monkeypatch) -> None:
    """A file in the current directory is enough, and the YAML file holds the factory's arguments."""
    (tmp_path / "own.py").write_text(
        "from ase.calculators.lj import LennardJones\ndef heavy(scale):\n    return LennardJones(sigma=scale, rc=6.0)\n"
    )
    (tmp_path / "own.yaml").write_text("scale: 2.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("in.extxyz", silicon().to_atoms())
    command = ["label", "in.extxyz", "--calculator", "own:heavy", "--options", "own.yaml", "--out", "o.extxyz"]
    assert run([*command, "--dry-run"]) == 0
    assert not Path("o.extxyz").exists()
    assert run(command) == 0
    atoms = silicon().to_atoms()
    atoms.calc = LennardJones(sigma=2.0, rc=6.0)
    assert read_frames(tmp_path / "o.extxyz")[0].energy == pytest.approx(atoms.get_potential_energy())


# --- CP2K -------------------------------------------------------------------------------------------------------------


def test_cp2k_options_reach_the_recipe() -> None:
    found = Cp2kOptions().recipe(["Li"])
    assert "MULTIPLICITY 2\n" in found
    assert "UKS" in found
    found = Cp2kOptions(charge=1).recipe(["Li"])
    assert "CHARGE 1\n" in found
    assert "UKS" not in found
    options = Cp2kOptions(valence_of={"La": 11}, basis_of={"La": "DZVP-X"}, dispersion="none", smooth_xc=False)
    text = options.recipe(["La", "O"])
    assert "BASIS_SET DZVP-X\nPOTENTIAL GTH-PBE-q11" in text
    assert "BASIS_SET DZVP-MOLOPT-SR-GTH\nPOTENTIAL GTH-PBE\n" in text
    assert not {"VDW_POTENTIAL", "XC_GRID", "STRESS_TENSOR"} & set(text.replace("&", " ").split())
    base = reference("cp2k")
    assert reference("cp2k", {"max_scf": 50}).settings_hash == base.settings_hash
    assert reference("cp2k", {"cutoff": 301.0}).settings_hash != base.settings_hash


H2_CELL = np.array([[4.0, 0.0, 0.0], [0.3, 4.2, 0.0], [0.0, 0.4, 4.5]])
H2 = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0.5, 0.3, 0.5]], cell=H2_CELL, pbc=[True] * 3)
MOVED = replace(H2, positions=H2.positions + 1e-3 * np.arange(6).reshape(2, 3))
TIGHT = {"cutoff": 300.0, "relative_cutoff": 40.0, "eps_scf": 1e-7, "eps_default": 1e-12, "stress": True}


def iterations(label) -> int:
    return int(label.info["label_scf_iterations"])


@has_cp2k
@pytest.mark.slow
def test_cp2k_gives_what_its_input_file_gives_and_carries_the_wavefunction_over(tmp_path) -> None:
    calculator = reference("cp2k", TIGHT).start(tmp_path)
    first = single_point(calculator, H2)
    # CP2K 2023.1, run by an input file of the same recipe.
    assert first.get_potential_energy() == pytest.approx(-31.814626801484795, abs=1e-6)
    assert first.get_forces()[0] == pytest.approx([0.8271410029, 0.5052235812, 0.8832949606], abs=1e-6)
    assert first.get_stress(voigt=False)[0] == pytest.approx([0.0221409342, 0.0034723913, 0.0051401282], abs=1e-7)
    assert first.calc.results["charges"] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert first.info["label_version"].startswith("Cp2k 20")
    # Along y the number of grid points stays the same under this strain; a jump of the grid would show in the stress.
    check_derivatives(calculator, H2, first, step=5e-3, rel=0.02)
    again = single_point(calculator, MOVED)
    assert iterations(again) < iterations(first)
    calculator.close()
    calculator = reference("cp2k", TIGHT).start(tmp_path)  # a new process finds the wavefunction on disk
    after = single_point(calculator, H2)
    assert iterations(after) < iterations(first)
    assert after.get_potential_energy() == pytest.approx(first.get_potential_energy(), abs=1e-6)
    calculator._shell._child.kill()  # as the system does when memory is short: the next frame starts it again
    calculator._shell._child.wait()
    moved = single_point(calculator, MOVED)
    assert moved.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-6)
    calculator.close()


@has_cp2k
@pytest.mark.slow
def test_a_wavefunction_that_leads_nowhere_is_tried_again_without(tmp_path) -> None:
    calculator = reference("cp2k").start(tmp_path)
    energy = single_point(calculator, H2).get_potential_energy()
    calculator.close()
    (wavefunction,) = tmp_path.glob("*.wfn")
    wavefunction.write_bytes(wavefunction.read_bytes()[:200])
    calculator = reference("cp2k").start(tmp_path)
    assert single_point(calculator, H2).get_potential_energy() == pytest.approx(energy, abs=1e-4)
    calculator.close()
