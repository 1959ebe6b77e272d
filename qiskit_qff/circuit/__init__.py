"""Circuits: ansatz families, readouts, and the matrices that a circuit realises.

``program`` joins a circuit with its readouts, ``ansatz`` builds programs by name, and ``compiled`` derives the energy
matrices and their derivatives from the circuit's own gates.
"""
