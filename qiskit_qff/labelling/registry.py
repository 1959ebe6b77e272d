"""Calculators by name."""

from qiskit_qff.labelling.ase_programs import AseLabeller
from qiskit_qff.labelling.cp2k import Cp2kLabeller
from qiskit_qff.labelling.labels import Labeller
from qiskit_qff.labelling.options import AseOptions, Cp2kOptions, Options, TbliteOptions
from qiskit_qff.labelling.tblite_xtb import TbliteLabeller


def make_labeller(name: str, options: Options) -> Labeller:
    """The labeller of a calculator.

    Args:
        name: ``cp2k``, ``tblite``, or the name of any other calculator in ASE.
        options: its settings, of the class that :func:`~qiskit_qff.labelling.options.read_options` gives for the name.
    """
    if isinstance(options, Cp2kOptions):
        return Cp2kLabeller(options)
    if isinstance(options, TbliteOptions):
        return TbliteLabeller(options)
    assert isinstance(options, AseOptions)
    return AseLabeller(name, options)
