"""i-PI takes its forces through ASE's socket client."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write

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
