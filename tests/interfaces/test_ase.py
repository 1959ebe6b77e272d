"""ASE finds the calculator and the file format by itself; i-PI and ASE's server drive `qff socket`."""

import json
import os
import shutil
import subprocess
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import get_calculator_class
from ase.calculators.socketio import SocketIOCalculator
from ase.io import read, write

from qiskit_qff import QFFCalculator
from qiskit_qff.cli.main import run
from qiskit_qff.errors import BackendError, DataError
from qiskit_qff.model.fence import within_walls
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.simulation.ase_format import read_qff_checkpoint
from qiskit_qff.simulation.socket import Address, serve

REGISTERED = any(entry.value.startswith("qiskit_qff") for entry in entry_points(group="ase.ioformats"))
needs_registration = pytest.mark.skipif(not REGISTERED, reason="the package is not installed with its entry points")
# Beside this Python, too: its environment need not be activated.
I_PI = shutil.which("i-pi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

INPUT = """<simulation verbosity='quiet'>
  <output prefix='run'><properties stride='1' filename='out'>
    [ step, conserved{electronvolt}, potential{electronvolt} ]
  </properties></output>
  <total_steps>4</total_steps>
  <prng><seed>1</seed></prng>
  <ffsocket name='qff' mode='unix' pbc='false'><address>ADDRESS</address></ffsocket>
  <system>
    <initialize nbeads='2'><file mode='xyz'>start.xyz</file>
      <velocities mode='thermal' units='kelvin'>100</velocities></initialize>
    <forces><force forcefield='qff'></force></forces>
    <motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'>1.0</timestep></dynamics></motion>
    <ensemble><temperature units='kelvin'>100</temperature></ensemble>
  </system>
</simulation>
"""


def test_calculator_by_name(trained) -> None:
    atoms = read(trained / "data.extxyz", "0")
    expected = QFFCalculator(trained / "run").get_potential_energy(atoms)
    assert get_calculator_class("qff")(model=str(trained / "run")).get_potential_energy(atoms) == expected


@needs_registration
def test_ase_finds_it_by_itself(trained, tmp_path) -> None:
    words = "from ase.io import read; from ase.calculators.calculator import get_calculator_class as g; print(g('qff'))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", words], capture_output=True, text=True, check=True)
    assert "QFF" in done.stdout
    command = [
        sys.executable,
        "-m",
        "ase",
        "run",
        "qff",
        "data.extxyz@0",
        "-p",
        "model=run",
        "-o",
        str(tmp_path / "o.json"),
    ]
    subprocess.run(command, cwd=trained, check=True, capture_output=True)
    atoms = read(trained / "data.extxyz", "0")
    assert read(tmp_path / "o.json").get_potential_energy() == QFFCalculator(trained / "run").get_potential_energy(
        atoms
    )
    listed = subprocess.run(
        [sys.executable, "-m", "ase", "info", "--plugins"], capture_output=True, text=True, check=True
    )
    assert "qff-checkpoint" in listed.stdout


@pytest.mark.parametrize("compact", [[], ["--compact"]])
def test_a_checkpoint_is_a_structure(trained, tmp_path, compact) -> None:
    command = ["md", str(trained / "run"), str(trained / "data.extxyz"), "--steps", "6", "--interval", "2", *compact]
    assert run([*command, "--out", str(tmp_path / "md")]) == 0
    atoms = read_qff_checkpoint(str(tmp_path / "md" / "checkpoint.npz"))
    last = read(next((tmp_path / "md").glob("trajectory.*")), "-1")
    assert atoms.get_chemical_symbols() == last.get_chemical_symbols()
    np.testing.assert_allclose(atoms.positions, last.positions, atol=1e-5 if compact else 1e-8)
    np.testing.assert_allclose(atoms.get_momenta(), last.get_momenta(), atol=1e-5 if compact else 1e-8)
    assert atoms.info["step"] == 6
    for path in (tmp_path / "md").glob("trajectory.*"):
        path.unlink()
    with pytest.raises(DataError, match="trajectory"):
        read_qff_checkpoint(str(tmp_path / "md" / "checkpoint.npz"))


def test_ase_as_the_server(trained) -> None:
    atoms, told = read(trained / "data.extxyz", "0"), []
    direct = QFFCalculator(trained / "run")
    name = f"qff-{trained.name}-{id(told)}"
    client = atoms.copy()
    client.calc = QFFCalculator(trained / "run")
    worker = threading.Thread(target=lambda: told.append(serve(client, Address(unix=name), patience=20.0)))
    worker.start()
    with SocketIOCalculator(unixsocket=name) as server:
        moving = atoms.copy()
        moving.calc = server
        for step in range(3):
            moving.positions[step, 0] += 0.05
            moving.set_cell(moving.cell * 1.001)
            assert moving.get_potential_energy() == pytest.approx(direct.get_potential_energy(moving), rel=1e-12)
            np.testing.assert_allclose(moving.get_forces(), direct.get_forces(moving), atol=1e-9)
            np.testing.assert_allclose(moving.get_stress(), direct.get_stress(moving), atol=1e-9)
    worker.join(20.0)
    assert told[0].evaluations == 3


@pytest.mark.parametrize("option", [(), ("--no-fence",)])
def test_the_command_serves_forces_within_walls(trained, option) -> None:
    field = ForceField.load(trained / "run" / "model.json")
    atoms = read(trained / "data.extxyz", "0")
    atoms.calc = None
    atoms.positions[0] += 0.4  # far outside the training data
    expected = {}
    for walls, potential in ((True, within_walls(field)), (False, field)):
        atoms.calc = QFFCalculator(potential)
        expected[walls] = atoms.get_potential_energy()
    assert expected[True] > expected[False] + 1e-3
    name, codes = f"qff-walls-{trained.name}-{len(option)}", []
    arguments = ["socket", str(trained / "run"), str(trained / "data.extxyz"), "--frame", "0", "--unix", name, *option]
    worker = threading.Thread(target=lambda: codes.append(run(arguments)))
    worker.start()
    with SocketIOCalculator(unixsocket=name) as server:
        atoms.calc = server
        assert atoms.get_potential_energy() == pytest.approx(expected[not option], rel=1e-12)
    worker.join(20.0)
    assert codes == [0]


def test_another_number_of_atoms_is_refused(trained) -> None:
    name, errors = f"qff-atoms-{trained.name}", []
    client = read(trained / "data.extxyz", "0")[:7]
    client.calc = QFFCalculator(trained / "run")

    def attempt() -> None:
        try:
            serve(client, Address(unix=name), patience=20.0)
        except DataError as error:
            errors.append(str(error))

    worker = threading.Thread(target=attempt)
    worker.start()
    with (
        SocketIOCalculator(unixsocket=name) as server,
        pytest.raises(Exception, match=r".*"),  # of ASE: the client has hung up
    ):
        server.get_potential_energy(read(trained / "data.extxyz", "0"))
    worker.join(20.0)
    assert "8 atoms" in errors[0]


def test_nobody_listens(trained, capsys) -> None:
    arguments = [str(trained / "run"), str(trained / "data.extxyz"), "--unix", "qff-nobody", "--wait", "0.2"]
    assert run(["socket", *arguments]) == 2
    assert "no server listens at /tmp/ipi_qff-nobody" in capsys.readouterr().err
    with pytest.raises(BackendError, match="--wait"):
        serve(read(trained / "data.extxyz", "0"), Address(port=9), patience=0.0)


@pytest.mark.slow
@pytest.mark.skipif(I_PI is None, reason="i-PI is not installed (pip install 'qiskit_qff[interfaces]')")
def test_path_integrals_by_i_pi(trained, tmp_path, capsys) -> None:
    atoms = read(trained / "data.extxyz", "0")
    atoms.calc = None
    write(tmp_path / "start.xyz", atoms, format="xyz")
    cell = " ".join(f"{value:.6f}" for value in atoms.cell.cellpar())
    lines = (tmp_path / "start.xyz").read_text().splitlines()
    lines[1] = f"# CELL(abcABC): {cell} cell{{angstrom}} positions{{angstrom}}"
    (tmp_path / "start.xyz").write_text("\n".join(lines) + "\n")
    name = f"qff-{tmp_path.parent.name}"
    (tmp_path / "input.xml").write_text(INPUT.replace("ADDRESS", name))
    with subprocess.Popen(
        [I_PI, "input.xml"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        arguments = [str(trained / "run"), str(trained / "data.extxyz"), "--frame", "0", "--unix", name, "--json"]
        assert run(["socket", *arguments]) == 0
        server.communicate(timeout=60.0)
    assert server.returncode == 0
    told = json.loads(capsys.readouterr().out)
    assert told["evaluations"] == 2 * 5  # beads, and steps with the first
    assert told["fence"] is True
    table = np.loadtxt(tmp_path / "run.out")
    assert len(table) == 5
    assert np.ptp(table[:, 1]) < 1e-3 * np.ptp(table[:, 2]) + 1e-5
