"""From hundreds of channels to the few numbers that a register holds."""
