"""Faults on purpose: what kills, fills disks and takes permissions away, and what has to hold afterwards."""
