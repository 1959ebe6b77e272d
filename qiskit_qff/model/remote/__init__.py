"""Calibrations that outlive the process that started them: a run on disk, its jobs, its results.

``run_directory`` plans and keeps, ``servers`` runs jobs, ``jobs`` sends and fetches them, ``results`` makes operators
and a calibrated model of them. ``qff calibrate`` and the scripts in ``hardware/`` are two doors to it.
"""
