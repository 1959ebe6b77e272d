"""Evaluators: expectation values of circuits, exact, simulated, or measured on a device.

``protocol`` says what is asked, answered and spent, ``exact`` and ``primitive`` answer, ``jobs`` keeps what was paid,
``operator`` and ``gradient`` turn expectation values into operators and their derivatives, ``backends`` finds devices
by name and ``tiling`` places on them, and ``mitigation`` holds the presets of error mitigation.
"""
