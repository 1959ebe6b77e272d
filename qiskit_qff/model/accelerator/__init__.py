"""The force field as compiled array operations, for graphics processors: large cells and many structures at a time.

Only this package knows JAX, and only what a device was asked for loads it.
"""
