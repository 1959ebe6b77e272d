"""A directory of ``qff learn`` on the page: rounds, dynamics and errors, as its own page shows them."""

from pathlib import Path

from qiskit_qff.bounded import read_json
from qiskit_qff.errors import DataError
from qiskit_qff.learning.records import LabelErrors, Learnt, RoundRecord
from qiskit_qff.report.learning_page import learning_page
from qiskit_qff.report.run_part import RunPart

LEARNT = "learn.json"


def is_learning_run(directory: Path) -> bool:
    """Whether ``qff learn`` came to its end in this directory."""
    return (directory / LEARNT).is_file()


def read_learning_run(directory: Path) -> RunPart:
    """Everything that active learning says.

    Args:
        directory: what ``qff learn`` wrote.

    Raises:
        DataError: if the file is damaged.
    """
    path = directory / LEARNT
    try:
        told = read_json(path)
        rounds = tuple(RoundRecord.from_dict(record) for record in told["rounds"])
        learnt = Learnt(
            reason=told["reason"],
            rounds=rounds,
            models=tuple(map(Path, told["models"])),
            held_out=tuple(None if errors is None else LabelErrors(**errors) for errors in told["held_out"]),
            n_labels=told["n_labels"],
            n_train=told["n_train"],
            n_failed=told["n_failed"],
        )
        page = learning_page(rounds, learnt, level=told["level"], calculator=told["calculator"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: damaged or edited ({error}). The same qff learn command writes it again.") from error
    return RunPart(
        kind="active learning",
        title=page.title,
        sections=page.sections,
        lead=page.lead,
        tiles=page.tiles,
        footer="",
    )
