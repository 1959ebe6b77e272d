"""What an atom sees: smooth, rotation-invariant numbers of its neighbours, and their derivatives."""
