"""Building systems to simulate or to label: supercells, lithium in pores, vacancies, strained and rattled copies.

Every function takes and gives :class:`~qiskit_qff.structures.frame.Frame`; what was done is kept in ``tags``, under
names that begin with ``build``, so that a file of built structures tells where each of them comes from. Structures
that symmetry maps onto each other are given once, with the number of equivalent ones.
"""
