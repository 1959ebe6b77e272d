"""Elastic constants, equation of state and phonons of a small crystal, by matcalc on a trained model.

    python examples/properties.py MODEL STRUCTURE [--supercell 2] [--json FILE]

matcalc (`pip install 'qiskit_qff[interfaces]'`) takes any ASE calculator, and reads structures as pymatgen's.
"""

import argparse
import json
from pathlib import Path

from ase.io import read
from matcalc import ElasticityCalc, EOSCalc, PhononCalc
from pymatgen.io.ase import AseAtomsAdaptor

from qiskit_qff import QFFCalculator


def properties(calculator, atoms, *, supercell: int = 2) -> dict[str, float]:
    """Elastic moduli in GPa, frequencies in THz, heat capacity in J/K/mol; the structure is relaxed first."""
    structure = AseAtomsAdaptor.get_structure(atoms)
    shear = (-0.01, -0.005, 0.005, 0.01)
    elastic = ElasticityCalc(calculator, shear_strains=shear, fmax=1e-3, units_GPa=True).calc(structure)
    relaxed = elastic["final_structure"]
    equation = EOSCalc(calculator, fmax=1e-3, relax_structure=False).calc(relaxed)
    grid = [[supercell, 0, 0], [0, supercell, 0], [0, 0, supercell]]
    phonons = PhononCalc(
        calculator, supercell_matrix=grid, relax_structure=False, write_phonon=False, t_max=300, t_step=300
    ).calc(relaxed)
    frequencies = phonons["phonon"].mesh.frequencies
    return {
        "volume_ang3": relaxed.volume,
        "bulk_modulus_gpa": elastic["bulk_modulus_vrh"],
        "shear_modulus_gpa": elastic["shear_modulus_vrh"],
        "bulk_modulus_of_equation_of_state_gpa": equation["bulk_modulus_bm"],
        "highest_frequency_thz": float(frequencies.max()),
        "lowest_frequency_thz": float(frequencies.min()),
        "heat_capacity_j_per_k_mol_at_300_k": float(phonons["thermal_properties"]["heat_capacity"][-1]),
    }


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("structure", type=Path)
    parser.add_argument("--supercell", type=int, default=2, help="repeats for phonons")
    parser.add_argument("--json", type=Path, help="file to write")
    chosen = parser.parse_args()
    found = properties(QFFCalculator(chosen.model), read(chosen.structure), supercell=chosen.supercell)
    for name, value in found.items():
        print(f"{name:40s} {value:.4g}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
