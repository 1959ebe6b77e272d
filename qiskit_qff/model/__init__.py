"""The force field itself: descriptors and circuits meet here."""
