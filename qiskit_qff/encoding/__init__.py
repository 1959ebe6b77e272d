"""Encoding: numbers of an atomic environment become amplitudes of a few qubits.

``amplitudes`` builds the vector (1, y, 0...), ``multiplexor`` and ``tree`` describe the circuit that prepares
a real state from RY and CZ gates, ``tree_angles`` turns amplitudes into its angles (with derivatives), and
``preparation`` writes it as one parametrised :class:`qiskit.QuantumCircuit`.

Basis states are little-endian as in Qiskit: amplitude ``j`` belongs to the state with qubit ``b`` in bit
``b`` of ``j``.
"""
