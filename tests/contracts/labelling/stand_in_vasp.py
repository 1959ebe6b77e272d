"""A stand-in for the VASP executable: reads POSCAR, writes OUTCAR and vasprun.xml as VASP does, energies by EMT.

It tells nothing about VASP's physics; it tells whether atoms that VASP sorts by element come back in their own order,
and units and signs survive.
"""

import sys
from pathlib import Path
from runpy import run_path

from ase.calculators.emt import EMT
from ase.io import read

from qiskit_qff.structures.frame import Frame

OUTCAR = """ vasp.6.4.2 20Jul23 (build of a stand-in) complex

   EDIFF  = 0.1E-03   stopping-criterion for ELM
   NBANDS=     12
------------------------ aborting loop because EDIFF is reached ----------------------------------------
"""


def main():
    """One calculation in the working directory."""
    atoms = read("POSCAR", format="vasp")
    for needed in ("KPOINTS", "POTCAR"):
        if not Path(needed).stat().st_size:
            sys.exit(f"ERROR: {needed} is empty")
    if "ENCUT" not in Path("INCAR").read_text():
        sys.exit("ERROR: no ENCUT")
    atoms.calc = EMT()
    atoms.get_forces()
    atoms.get_stress()
    # Smearing: only the energy extrapolated to none is the label.
    writer = run_path(str(Path(__file__).parents[3] / "docs" / "tutorials" / "example_vasp.py"))
    Path("vasprun.xml").write_text(writer["vasprun_text"]([Frame.from_atoms(atoms)]))
    Path("OUTCAR").write_text(OUTCAR)


if __name__ == "__main__":
    main()
