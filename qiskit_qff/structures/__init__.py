"""Structures and data sets: reading, checking, splitting, and the neighbours of every atom.

This layer knows no model and no circuit. All quantities are in eV and Å; stresses in eV/Å³ with ASE's sign
(positive under tension, the derivative of the energy with respect to strain, divided by the volume).
"""
