"""Three ways to get energies, forces and gradients from expectation values; all give the same numbers.

``environment`` measures every atom's state, ``density`` the eigenvectors of summed states, ``operator`` the
energy matrix itself, once for all.
"""
