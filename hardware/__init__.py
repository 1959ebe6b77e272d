"""Calibration of a force field on a quantum device: submit and collect.

``python -m hardware.submit`` and ``python -m hardware.collect``; see README.md. Imports
qiskit_qff, never the reverse.
"""
