"""Calibration of a force field on a quantum device: submit, collect, cost.

``python -m hardware.cost``, ``python -m hardware.submit`` and ``python -m hardware.collect``; see README.md. Imports
qiskit_qff, never the reverse.
"""
