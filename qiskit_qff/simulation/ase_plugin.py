"""The calculator in ASE's own list of plugins (``ase info --plugins``), which is still experimental in ASE 3."""

from ase._4.plugins.plugin import CalculatorPlugin

__ase_plugins__ = {CalculatorPlugin("qff", implementation="qiskit_qff.simulation.calculator.QFFCalculator")}
