"""ASE finds the calculator and the file format by itself; i-PI takes its forces through ASE's socket client."""

import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import get_calculator_class
from ase.io import read, write

from qiskit_qff import QFFCalculator
from qiskit_qff.cli.main import run
from qiskit_qff.errors import DataError
from qiskit_qff.simulation.ase_format import read_qff_checkpoint

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


@pytest.mark.slow
@pytest.mark.skipif(I_PI is None, reason="i-PI is not installed (pip install 'qiskit_qff[interfaces]')")
def test_path_integrals_by_i_pi(trained, tmp_path, monkeypatch) -> None:
    """The client that the documentation shows: path-integral dynamics conserve energy."""
    atoms = read(trained / "data.extxyz", "0")
    atoms.calc = None
    cell = " ".join(f"{value:.6f}" for value in atoms.cell.cellpar())
    comment = f"# CELL(abcABC): {cell} cell{{angstrom}} positions{{angstrom}}"
    write(tmp_path / "start.xyz", atoms, format="xyz", comment=comment)
    (tmp_path / "run").symlink_to(trained / "run")
    name = f"qff-{os.getpid()}"
    (tmp_path / "input.xml").write_text(INPUT.replace("ADDRESS", name))
    page = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text()
    client = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "SocketClient" in code)
    assert 'unixsocket="my-run"' in client
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen([I_PI, "input.xml"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as server:
        while not Path(f"/tmp/ipi_{name}").exists():
            assert server.poll() is None
            time.sleep(0.1)
        exec(compile(client.replace("my-run", name), "interfaces.md", "exec"), {})
        assert server.wait(timeout=60.0) == 0
    table = np.loadtxt(tmp_path / "run.out")
    assert len(table) == 5
    assert np.ptp(table[:, 1]) < 1e-3 * np.ptp(table[:, 2]) + 1e-5
