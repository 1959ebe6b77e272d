"""Reference labels: energies, forces and stresses of structures, from any program that ASE can drive, or from CP2K.

Frames are labelled one by one in worker processes. Each finished frame is written and forced to disk at once, with the
program, its version, the settings and the time it took; what fails is kept with the reason in a file of its own.
Nothing of this layer knows a model: labels exist before there is one.
"""
