"""Encoding: an atomic environment as the amplitudes of a register, and circuits that prepare them.

``amplitudes`` makes a vector of a compressed descriptor, ``tree`` the rotation tree that prepares it, with the
derivatives of its angles, and ``preparation`` the circuits.
"""
