"""matcalc and pymatgen take the calculator: elastic constants, equation of state and phonons of a small cell."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from ase.build import bulk

from qiskit_qff import QFFCalculator

sys.path.append(str(Path(__file__).parents[2] / "examples"))


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("matcalc") is None, reason="matcalc is not installed (pip install 'qiskit_qff[interfaces]')"
)
@pytest.mark.filterwarnings("ignore")  # of matcalc, phonopy and pymatgen
def test_elastic_constants_equation_of_state_phonons(trained) -> None:
    from properties import properties

    atoms = bulk("Cu", cubic=True)
    atoms.symbols[0] = "Au"
    atoms.set_cell([3.8] * 3, scale_atoms=True)
    found = properties(QFFCalculator(trained / "run"), atoms, supercell=1)
    # Two ways to the same number: stresses of slightly strained cells, and energies of cells scaled by some per cent,
    # further than the few parameters of this small model follow one curve.
    assert found["bulk_modulus_gpa"] == pytest.approx(found["bulk_modulus_of_equation_of_state_gpa"], rel=0.25)
    assert 50.0 < found["bulk_modulus_gpa"] < 300.0
    assert 2.0 < found["highest_frequency_thz"] < 12.0
    assert found["heat_capacity_j_per_k_mol_at_300_k"] < 4 * 24.95  # Dulong and Petit
