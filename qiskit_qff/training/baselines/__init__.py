"""Classical models of at most as many parameters, fitted to the same frames with the same loss."""
