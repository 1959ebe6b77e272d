"""Errors that a user can act on: each says where, what was found, what was expected, and what to do.

The command line turns every ``QFFError`` into one line on stderr and exit code 2; anything else is a bug of
this package and keeps its traceback.
"""


class QFFError(Exception):
    """Base class of all errors that input, settings or surroundings can cause."""


class DataError(QFFError):
    """A structure file or data set that can't be used; names file, frame and atom."""


class ConfigError(QFFError):
    """A setting that is unknown, has the wrong type or contradicts another one."""


class ModelFileError(QFFError):
    """A model file that can't be read, is damaged, or was written by a newer version."""


class BudgetError(QFFError):
    """More trainable parameters than the limit allows."""


class BackendError(QFFError):
    """A quantum backend that is unknown, unreachable or not able to run what was asked."""


class MissingDependencyError(QFFError):
    """An optional dependency that is not installed; names the extra that brings it."""


class SimulationError(QFFError):
    """A simulation that became unphysical: it exploded, or lost an atom."""
