"""Train on with the channels of an existing model: for data that grew, where a new choice would change little.

What costs most of a training, the sums over the whole pool and the search for channels, is left out; sums over the
chosen features, posterior and the core repulsion come from the new frames. The model's own parameters are where
training on a backend starts; exact training finds its optimum without them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff.array_types import FloatArray
from qiskit_qff.errors import BudgetError, DataError
from qiskit_qff.model.config import TrainConfig
from qiskit_qff.model.core_repulsion import CoreRepulsion
from qiskit_qff.model.force_field import ForceField
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.defaults import resolve_config
from qiskit_qff.training.loss import LossWeights, Progress, check_labels, reference_count
from qiskit_qff.training.objective import Objective, ParameterLayout
from qiskit_qff.training.posterior import posterior_of
from qiskit_qff.training.statistics import find_shortest, quadratic_statistics
from qiskit_qff.training.trainer import PreparedTraining


def prepare_from_model(
    frames: Sequence[Frame],
    config: TrainConfig,
    field: ForceField,
    *,
    progress: Progress,
    same_repulsion: bool = False,
) -> tuple[PreparedTraining, FloatArray]:
    """Sum up the data in the features of a model.

    Returns:
        The prepared data, and the model's own parameters for it, shape ``(P,)``.
    """
    loss = LossWeights.of(config)
    check_labels(frames, loss)
    found, known = species_of(frames), field.species
    if found != known:
        names = [" ".join(chemical_symbols[z] for z in numbers) for numbers in (known, found)]
        raise DataError(f"the model to start from knows the elements {names[0]}, the training frames hold {names[1]}.")
    registers, n_references = list(field.registers.values()), reference_count(frames, field.species)
    layout = ParameterLayout(
        tuple(register.ansatz for register in registers),
        tuple(register.n_features + 1 for register in registers),
        n_references,
        balanced=all(register.balanced for register in registers),
    )
    if layout.n_trainable > config.max_parameters:
        raise BudgetError(
            f"the model to start from has {layout.n_trainable} trainable parameters, more than max_parameters = "
            f"{config.max_parameters}; raise it, or start from a smaller model."
        )
    maps, r_cut = {m.number: m.compression for m in field.models}, field.r_cut
    held = {m.number: [register.n_features for register in m.registers] for m in field.models}
    statistics = quadratic_statistics(frames, maps, held, r_cut=r_cut, weights=loss, progress=progress)
    own = config.descriptor.model_copy(update={"r_cut": r_cut})
    used, _ = resolve_config(config.model_copy(update={"descriptor": own}), frames)
    objective = Objective(statistics, layout, shots=config.loss.shots)
    parameters = np.zeros(layout.n_parameters)
    parameters[: layout.n_angles] = np.concatenate([register.theta for register in registers])
    parameters[layout.all_weights] = np.concatenate([register.weights for register in registers])
    posterior = posterior_of(frames, maps, statistics, r_cut=r_cut, progress=progress)
    repulsion = field.repulsion
    if not same_repulsion:
        shortest = find_shortest(frames, found, r_cut, progress)
        repulsion = CoreRepulsion.from_shortest_distances(found, shortest, cutoff=r_cut)
    prepared = PreparedTraining(used, objective, maps, repulsion, None, posterior, len(frames))
    return prepared, parameters
