"""Options, and the programs themselves: EMT, tblite and CP2K against finite differences of their own energies."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from qiskit_qff.cli.main import run
from qiskit_qff.errors import ConfigError, MissingDependencyError
from qiskit_qff.labelling.cp2k import Cp2kLabeller
from qiskit_qff.labelling.labels import LabelError, Labeller
from qiskit_qff.labelling.options import AseOptions, Cp2kOptions, TbliteOptions, read_options
from qiskit_qff.labelling.registry import make_labeller
from qiskit_qff.structures.frame import Frame

STAND_IN = Path(__file__).parents[2] / "contracts" / "labelling" / "stand_in_vasp.py"

has_cp2k = pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="cp2k.psmp is not installed")


def silicon(number: int = 14) -> Frame:
    """Two atoms in a skewed primitive cell, displaced."""
    cell = 2.715 * np.array([[0.0, 1.0, 1.0], [1.0, 0.02, 1.0], [1.0, 1.0, 0.0]])
    return Frame(numbers=[number] * 2, positions=[[0, 0, 0], [1.40, 1.30, 1.38]], cell=cell, pbc=[True] * 3)


def check_derivatives(labeller: Labeller, frame: Frame, directory: Path, *, step: float, rel: float) -> None:
    """Force and stress are derivatives of the energy, signs and units included, along one mixed displacement.

    The last atom moves along x by ``step`` while the cell is strained along y by as much, with all atoms in it.
    """
    label = labeller.label(frame, directory)
    assert label.stress is not None
    energies = []
    for sign in (1.0, -1.0):
        move, strain = np.zeros((frame.n_atoms, 3)), np.eye(3)
        move[-1, 0] = sign * step
        strain[1, 1] += sign * step
        there = replace(frame, positions=(frame.positions + move) @ strain, cell=frame.cell @ strain)
        energies.append(labeller.label(there, directory).energy)
    by_force = -label.forces[-1, 0]
    by_stress = label.stress[1, 1] * frame.volume
    assert min(abs(by_force), abs(by_stress)) > 10.0 * rel * abs(by_force + by_stress)  # neither could hide
    assert (energies[0] - energies[1]) / (2 * step) == pytest.approx(by_force + by_stress, rel=rel)


def test_emt(tmp_path) -> None:
    labeller = make_labeller("emt", AseOptions())
    check_derivatives(labeller, silicon(79), tmp_path, step=1e-4, rel=1e-4)
    assert labeller.label(silicon(79), tmp_path).version.startswith("emt (ASE 3.")


@pytest.fixture
def vasp(monkeypatch, tmp_path):
    """VASP's settings, its potentials and, in its place, a program that reads and writes what it does."""
    for element in ("Cu", "Au"):
        (tmp_path / "potpaw_PBE" / element).mkdir(parents=True)
        (tmp_path / "potpaw_PBE" / element / "POTCAR").write_text(f"PAW_PBE {element}\n")
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path))
    monkeypatch.setenv("ASE_CONFIG_PATH", str(tmp_path / "none.ini"))
    monkeypatch.setenv("ASE_VASP_COMMAND", f"{sys.executable} {STAND_IN}")
    return make_labeller("vasp", AseOptions(parameters={"xc": "PBE", "encut": 400, "kpts": [1, 1, 1]}))


def test_vasp_keeps_the_order_of_atoms_and_what_energies_and_stresses_mean(vasp, tmp_path) -> None:
    cell = np.array([[5.3, 0.1, 0.0], [0.0, 5.2, 0.2], [0.1, 0.0, 5.4]])
    positions = np.array([[0.1, 0, 0], [0, 2.6, 2.7], [2.5, 0, 2.6], [2.6, 2.7, 0.2]])
    frame = Frame(numbers=[29, 79, 29, 79], positions=positions, cell=cell, pbc=[True] * 3)
    label = vasp.label(frame, tmp_path / "worker")
    atoms = frame.to_atoms()
    atoms.calc = EMT()
    assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert label.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
    assert label.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-8)
    assert label.version.startswith("vasp 6.4.2 (ASE 3.")
    check_derivatives(vasp, frame, tmp_path / "worker", step=1e-4, rel=1e-3)


def test_vasp_that_did_not_converge_is_no_label(vasp, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("STAND_IN_VASP", "unconverged")
    with pytest.raises(LabelError, match="did not converge") as caught:
        vasp.label(silicon(29), tmp_path / "worker")
    assert caught.value.kind == "not-converged"
    assert (tmp_path / "worker" / "run" / "OUTCAR").exists()  # kept, to be looked at


def test_tblite_on_a_periodic_cell(tmp_path) -> None:
    pytest.importorskip("tblite", reason="tblite is not installed")
    labeller = make_labeller("tblite", TbliteOptions())
    check_derivatives(labeller, silicon(), tmp_path, step=2e-3, rel=5e-3)
    label = labeller.label(silicon(), tmp_path)
    assert label.version.startswith("tblite ")
    assert label.columns["mulliken_charges"].sum() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(LabelError) as caught:
        make_labeller("tblite", TbliteOptions(method="GFN2-xTB", max_iterations=1)).label(silicon(), tmp_path)
    assert caught.value.kind == "not-converged"


H2_CELL = np.array([[4.0, 0.0, 0.0], [0.3, 4.2, 0.0], [0.0, 0.4, 4.5]])
H2 = Frame(numbers=[1, 1], positions=[[0, 0, 0], [0.5, 0.3, 0.5]], cell=H2_CELL, pbc=[True] * 3)


@has_cp2k
def test_cp2k_runs_and_carries_the_wavefunction_over(tmp_path) -> None:
    options = Cp2kOptions(cutoff=300.0, relative_cutoff=40.0, eps_scf=1e-7, eps_default=1e-12, stress=True)
    labeller = Cp2kLabeller(options)
    first = labeller.label(H2, tmp_path)
    assert first.tags["label_guess"] == "atomic"
    assert first.version.startswith("CP2K 20")
    # Along y the number of grid points stays the same under this strain; a jump of the grid would show in the stress.
    check_derivatives(labeller, H2, tmp_path, step=5e-3, rel=0.02)
    again = labeller.label(H2, tmp_path)
    assert again.tags["label_guess"] == "previous"
    assert int(again.tags["label_scf_iterations"]) < int(first.tags["label_scf_iterations"])
    assert again.energy == pytest.approx(first.energy, abs=1e-6)
    # The input differs by where to begin, so its hash does; the same run again has the same hash.
    assert again.input_hash != first.input_hash
    assert labeller.label(H2, tmp_path).input_hash == again.input_hash


@has_cp2k
def test_cp2k_says_when_it_fails(tmp_path) -> None:
    with pytest.raises(LabelError, match="NOT converged") as caught:
        Cp2kLabeller(Cp2kOptions(max_scf=2, max_outer_scf=1)).label(H2, tmp_path)
    assert caught.value.kind == "not-converged"
    with pytest.raises(LabelError, match="NOPE") as caught:
        Cp2kLabeller(Cp2kOptions(basis="NOPE")).label(H2, tmp_path)
    assert caught.value.kind == "crash"


def test_a_missing_program_is_named_with_its_remedy(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("QFF_CP2K", raising=False)
    with pytest.raises(MissingDependencyError, match="apt-get install cp2k"):
        Cp2kLabeller(Cp2kOptions()).check()
    monkeypatch.setenv("QFF_CP2K", "mpiexec -n 2 cp2k.psmp")
    with pytest.raises(ConfigError, match="mpiexec"):
        Cp2kLabeller(Cp2kOptions()).check()
    program = tmp_path / "my-cp2k"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("QFF_CP2K", "my-cp2k --nice")
    assert Cp2kLabeller(Cp2kOptions()).command() == ["my-cp2k", "--nice"]


def test_programs_of_ase_are_looked_for(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("ASE_VASP_COMMAND", "VASP_COMMAND", "VASP_SCRIPT", "ASE_NWCHEM_COMMAND"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match="VASP_COMMAND"):
        make_labeller("vasp", AseOptions()).check()
    monkeypatch.setenv("ASE_VASP_COMMAND", "OMP_NUM_THREADS=1 my-mpirun -n 4 vasp_std")
    with pytest.raises(ConfigError, match="no program 'my-mpirun'"):
        make_labeller("vasp", AseOptions()).check()
    with pytest.raises(ConfigError, match="no program 'nwchem'"):
        make_labeller("nwchem", AseOptions()).check()
    for name in ("my-mpirun", "nwchem"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    make_labeller("vasp", AseOptions()).check()
    make_labeller("nwchem", AseOptions()).check()
    monkeypatch.setenv("ASE_NWCHEM_COMMAND", "./nwchem PREFIX.nwi")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"whole path, such as {tmp_path}/nwchem"):
        make_labeller("nwchem", AseOptions()).check()
    # What the shell must read is left to it; a calculator without a program needs none.
    for command in (
        "source /opt/vasp/env.sh && vasp_std",
        "PATH=/opt/vasp/bin vasp_std",
        'OPTIONS="-n 4 -x" vasp_std',
        "umask 022; vasp_std",
        "$VASP/bin/vasp_std",
        "if true; then vasp_std; fi",
        "module load vasp",
    ):
        monkeypatch.setenv("ASE_VASP_COMMAND", command)
        make_labeller("vasp", AseOptions()).check()
    make_labeller("emt", AseOptions()).check()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("cp2k", "cutof: 400", "unknown key 'cutof'"),
        ("cp2k", "cutoff: high", "cutoff: found 'high'"),
        ("tblite", "method: GFN0-xTB", "'GFN1-xTB' or 'GFN2-xTB'"),
        ("emt", "- 1", "expected 'key: value'"),
        ("emt", "a: [", "no valid YAML"),
        ("vasp", "xc: PBE", "Known keys: parameters, profile"),
    ],
)
def test_options_are_checked(tmp_path, name, text, words) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="--options") as caught:
        read_options(name, path)
    assert words in str(caught.value)


def test_the_hash_covers_what_labels_depend_on() -> None:
    base = Cp2kLabeller(Cp2kOptions())
    assert Cp2kLabeller(Cp2kOptions(max_scf=50, command="x")).settings_hash == base.settings_hash
    assert Cp2kLabeller(Cp2kOptions(cutoff=301.0)).settings_hash != base.settings_hash
    assert make_labeller("emt", AseOptions()).settings_hash != make_labeller("lj", AseOptions()).settings_hash


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--calculator", "emtt"], "Known: "),
        (["--calculator", "espresso"], "can't be set up"),
        (["--calculator", "emt", "--options", "nowhere.yaml"], "No such file"),
        (["--calculator", "emt", "--retry-failed"], "only together with --resume"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, monkeypatch, arguments, words) -> None:
    monkeypatch.setenv("ASE_CONFIG_PATH", str(tmp_path / "none.ini"))
    data = tmp_path / "in.extxyz"
    data.write_text('1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\n')
    assert run(["label", str(data), "--out", str(tmp_path / "out.extxyz"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.extxyz").exists()


def test_labels_are_not_written_over_what_is_read(tmp_path, capsys) -> None:
    data = tmp_path / "in.failures.extxyz"
    data.write_text("1\n\nCu 0 0 0\n")
    for out in (data, tmp_path / "in.extxyz"):
        assert run(["label", str(data), "--calculator", "emt", "--out", str(out), "--resume"]) == 2
        assert "read and written at once" in capsys.readouterr().err


def test_a_dry_run_shows_the_input_and_runs_nothing(tmp_path, capsys, monkeypatch) -> None:
    program = tmp_path / "cp2k.psmp"
    program.write_text("#!/bin/sh\ntouch ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("QFF_CP2K", str(program))
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert run(["label", "shipped", "--calculator", "cp2k", "--out", str(tmp_path / "o.extxyz"), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "POTENTIAL GTH-PBE-q12" in text
    assert "3 threads" in text
    assert [path.name for path in tmp_path.iterdir()] == ["cp2k.psmp"]
