"""The accuracy suite: what is fitted to what, with which models, and where the errors are written down."""
