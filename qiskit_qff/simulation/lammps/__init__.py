"""Distributed molecular dynamics: LAMMPS divides space, integrates and writes; each of its processes asks the model.

Parts, in the order data flows:

- :mod:`~qiskit_qff.simulation.lammps.writing`: structure and settings become an input that LAMMPS reads;
- :mod:`~qiskit_qff.simulation.lammps.running`: one LAMMPS per process, the force field attached, restarts;
- :mod:`~qiskit_qff.simulation.lammps.coupling`: what happens at every step on every process;
- :mod:`~qiskit_qff.simulation.lammps.ghosts`: forces on copies of other processes' atoms go back to their owners;
- :mod:`~qiskit_qff.simulation.lammps.libraries`: where the optional packages are imported.
"""
