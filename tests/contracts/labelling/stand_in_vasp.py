"""A stand-in for the VASP executable: reads POSCAR, writes OUTCAR and vasprun.xml as VASP does, energies by EMT.

It tells nothing about VASP's physics; it tells whether atoms that VASP sorts by element come back in their own order,
units and signs survive, and a calculation that did not converge is refused. ``STAND_IN_VASP=unconverged`` makes one.
"""

import os
import sys
from pathlib import Path

import numpy as np
from ase.calculators.emt import EMT
from ase.io import read
from ase.units import GPa

XML = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="version" type="string">6.4.2</i></generator>
 <kpoints><varray name="kpointlist"><v>0.0 0.0 0.0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>
 <parameters><separator name="general"><i name="PSTRESS">0.0</i></separator></parameters>
 <atominfo><array name="atoms"><set>{species}</set></array></atominfo>
 <structure name="initialpos">{structure}</structure>
 <calculation>
  <scstep>{energy}</scstep>
  <structure>{structure}</structure>
  <varray name="forces">{forces}</varray>
  <varray name="stress">{stress}</varray>
  {energy}
  <dos><i name="efermi">1.0</i></dos>
 </calculation>
</modeling>
"""
NAMES = {"e_fr_energy": "free", "e_wo_entrp": "free", "e_0_energy": "zero"}
ENERGY = "<energy>" + "".join(f'<i name="{name}">{{{value}}}</i>' for name, value in NAMES.items()) + "</energy>"
OUTCAR = """ vasp.6.4.2 20Jul23 (build of a stand-in) complex

   EDIFF  = 0.1E-03   stopping-criterion for ELM
   NBANDS=     12
------------------------ aborting loop {why} ----------------------------------------
"""


def rows(values):
    """An array as VASP's xml has it."""
    return "".join("<v>" + " ".join(f"{x:.12f}" for x in row) + "</v>" for row in np.atleast_2d(values))


def main():
    """One calculation in the working directory."""
    atoms = read("POSCAR", format="vasp")
    incar = Path("INCAR").read_text()
    for needed in ("KPOINTS", "POTCAR"):
        if not Path(needed).stat().st_size:
            sys.exit(f"ERROR: {needed} is empty")
    if "ENCUT" not in incar:
        sys.exit("ERROR: no ENCUT")
    atoms.calc = EMT()
    energy = atoms.get_potential_energy()
    kbar = -atoms.get_stress(voigt=False) / (0.1 * GPa)
    structure = (
        f'<crystal><varray name="basis">{rows(atoms.cell.array)}</varray></crystal>'
        f'<varray name="positions">{rows(atoms.get_scaled_positions())}</varray>'
    )
    Path("vasprun.xml").write_text(
        XML.format(
            species="".join(f"<rc><c>{symbol}</c><c>1</c></rc>" for symbol in atoms.symbols),
            structure=structure,
            # Smearing: only the energy extrapolated to none is the label.
            energy=ENERGY.format(free=f"{energy - 0.25:.10f}", zero=f"{energy:.10f}"),
            forces=rows(atoms.get_forces()),
            stress=rows(kbar),
        )
    )
    failed = os.environ.get("STAND_IN_VASP") == "unconverged"
    why = "EDIFF was not reached (unconverged)" if failed else "because EDIFF is reached"
    Path("OUTCAR").write_text(OUTCAR.format(why=why))


if __name__ == "__main__":
    main()
