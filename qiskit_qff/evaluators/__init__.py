"""Evaluators: expectation values of circuits, exact, simulated, or measured on a device.

``protocol`` says what is asked and answered, ``tasks`` joins state preparation and circuit, ``exact`` and
``primitive`` answer, ``strategies`` turn expectation values into energies, forces and gradients, ``backends``
finds devices by name, and ``mitigation`` holds the presets of error mitigation.
"""
