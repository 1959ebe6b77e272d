"""From labelled frames to a force field: statistics, objective, solver."""
