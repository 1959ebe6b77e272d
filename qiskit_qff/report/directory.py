"""Any directory that ``qff`` wrote, recognised by its files, and several of them on one page."""

from pathlib import Path

from qiskit_qff.durable import read_json
from qiskit_qff.errors import ConfigError
from qiskit_qff.model.metrics import Metrics
from qiskit_qff.report.dynamics import analysis_part, md_part
from qiskit_qff.report.page import Part, Section
from qiskit_qff.report.record import EVALUATION, read_record, reading
from qiskit_qff.report.training import errors_section, training_part


def read_run(directory: Path) -> list[Part]:
    """Everything that a directory holds, in the order of a page."""
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such directory. Name what qff train, md, analyse, ... wrote to.")
    found = [part(directory) for part in PARTS]
    found.append(md_part(directory / "md"))  # such as the dynamics of qff demo
    parts = [part for part in found if part is not None]
    if not parts:
        raise ConfigError(
            f"{directory}: holds nothing that a report could show. Expected what qff train, learn, evaluate --out, "
            "md or analyse wrote."
        )
    return parts


def _evaluation_part(directory: Path) -> Part | None:
    """Errors on a labelled set, and what a backend did if one was used."""
    if not (path := directory / EVALUATION).is_file():
        return None
    with reading(path, remedy="Evaluate again."):
        told = read_json(path)
        metrics, name = Metrics.from_dict(told), str(told.get("data", "all"))
    (comparisons, _), lead = read_record(directory), [f"Evaluated on {metrics.n_frames} frames of {name}."]
    if seen := told.get("n_frames_seen_in_training"):
        lead.append(f"The model was trained on {seen} of them, so these errors are too small.")
    if not comparisons:
        lead.append("No parity plots: the predictions (record.json) are gone.")
    if told.get("n_shots"):
        lead.append(f"Measured on {told['backend']}: {told['n_circuits']} circuits, {told['n_shots']} shots in all.")
    sections = (errors_section(comparisons, {"all": metrics}),)
    tiles = (
        (f"{metrics.force_mae_mev_per_ang:.0f} meV/Å", "force MAE"),
        (f"{metrics.energy_mae_mev_per_atom:.2f} meV/atom", "energy MAE"),
    )
    return Part("evaluation", f"Evaluation on {name}", sections, lead=tuple(lead), tiles=tiles)


def _learning_part(directory: Path) -> Part | None:
    """Rounds, dynamics and errors of active learning that came to its end."""
    if not (path := directory / "learn.json").is_file():
        return None
    with reading(path, remedy="The same qff learn command writes it again."):
        told = read_json(path)
        rounds, held_out = told["rounds"], told["held_out"]
        last = rounds[-1]
        final = next((errors for errors in reversed(held_out) if errors is not None), last["held_out"])
        tiles = [
            (str(len(rounds)), "rounds"),
            (str(last["n_labels"]), f"labels by {told['calculator']} ({told['level']})"),
            (f"{last['shortest_ps']:.3g} ps", "shortest run of the last round"),
        ]
        if final is not None:
            force, energy = final["force_mae_mev_per_ang"], final["energy_mae_mev_per_atom"]
            tiles.append((f"{force:.0f} meV/Å", f"force MAE on {final['n_frames']} frames held out"))
            tiles.append((f"{energy:.2f} meV/atom", "energy MAE on them"))
        lead = (
            "Molecular dynamics with the model of each round finds structures outside its training data; the most "
            "informative ones are labelled, and the next model is trained on them. It ended because: "
            f"{told['reason_in_words']}."
        )
    section = Section("By round", "rounds.html", {"rounds": rounds})
    return Part("active learning", "Active learning", (section,), lead=(lead,), tiles=tuple(tiles))


PARTS = (training_part, _learning_part, _evaluation_part, analysis_part, md_part)
"""What each verb wrote into a directory, in the order of a page; None where it wrote nothing."""
