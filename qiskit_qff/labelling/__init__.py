"""Reference labels: energies, forces and stresses of structures from any ASE calculator.

Nothing of this layer knows a model: labels exist before there is one.
"""
