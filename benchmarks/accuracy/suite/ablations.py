"""What each part of the model brings: parts taken away, exchanged or frozen, one at a time.

Few frames and one restart, to be cheap. Every variant keeps to 99 trainable parameters.

`random_circuit`: random angles that are never trained, 31 trained readout weights a species. `no_entangling`: one layer
of RY, then Z strings; made of a brickwork whose last rotations are frozen at zero, since CZ commutes with the readout.
`normalised_*`: the state alone, energies ⟨x̂|M|x̂⟩ without ‖x‖²; with small features (norm 0.1, so the norm of the state
hardly varies) and with standardised features of order one. `no_forces`, `no_energies`: those labels have no weight.
"""

from dataclasses import replace

import numpy as np

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program
from qiskit_qff.circuit.compiled import readout_jacobian, readout_matrices
from qiskit_qff.compression.normal_equations import NormalEquations
from qiskit_qff.model.config import parse_config
from qiskit_qff.model.metrics import compare, measure
from qiskit_qff.training.balance import BalancedObjective
from qiskit_qff.training.baselines.atom_features import atom_features
from qiskit_qff.training.loss import add_frame
from qiskit_qff.training.objective import Objective, ParameterLayout
from qiskit_qff.training.solver import SolverSettings, levenberg_marquardt, solve_weights
from qiskit_qff.training.trainer import fit, loss_weights, prepare
from suite.models import ERRORS, pool_of, silent

BASE = {"optimizer": {"restarts": 1, "max_iterations": 150}}
TREE = {"family": "ry_tree", "readout": "rank_one"}
CZ = {"family": "brickwork_cz", "readout": "z_diagonal"}
RZZ = {"family": "brickwork_rzz", "readout": "z_diagonal"}
CONFIGS = {
    "default": ("trees on 2 qubits, forward selection", {}),
    "tree_n1": ("trees on 1 qubit", {"circuit": TREE | {"n_qubits": 1}}),
    "tree_n3": ("trees on 3 qubits", {"circuit": TREE | {"n_qubits": 3}}),
    "tree_n4": ("trees on 4 qubits", {"circuit": TREE | {"n_qubits": 4}}),
    "tree_n5": ("trees on 5 qubits", {"circuit": TREE | {"n_qubits": 5}}),
    "tree_n6": ("trees on 6 qubits", {"circuit": TREE | {"n_qubits": 6}}),
    "cz_n2": ("brickwork CZ, 2 qubits, 1 layer", {"circuit": CZ | {"n_qubits": 2, "layers": 1}}),
    "cz_n3": ("brickwork CZ, 3 qubits, 6 layers", {"circuit": CZ | {"n_qubits": 3, "layers": 6, "n_readouts": 8}}),
    "cz_n4": ("brickwork CZ, 4 qubits, 4 layers", {"circuit": CZ | {"n_qubits": 4, "layers": 4, "n_readouts": 8}}),
    "cz_n5": ("brickwork CZ, 5 qubits, 3 layers", {"circuit": CZ | {"n_qubits": 5, "layers": 3, "n_readouts": 8}}),
    "cz_n6": ("brickwork CZ, 6 qubits, 3 layers", {"circuit": CZ | {"n_qubits": 6, "layers": 3, "n_readouts": 8}}),
    "rzz_n4": ("brickwork RZZ, 4 qubits, 2 layers", {"circuit": RZZ | {"n_qubits": 4, "layers": 2, "n_readouts": 8}}),
    "pca": ("principal components instead of selection", {"compression": {"method": "pca"}}),
    "not_decorrelated": ("features as selected, not decorrelated", {"compression": {"decorrelate": False}}),
    "no_shot_noise": ("trained without regard to shot noise", {"loss": {"shots": None}}),
    "legendre": ("Legendre polynomials for the angle", {"descriptor": {"angular": "legendre"}}),
    "no_products": ("no products of channels", {"descriptor": {"products": 0}}),
    "one_round": ("one round of products of channels instead of two", {"descriptor": {"products": 1}}),
    "no_bonds": ("no channels of bonded neighbours", {"descriptor": {"bonds": False}}),
    "no_forces": ("no force labels", {"loss": {"force_scale_mev_per_ang": 1e7}}),
    "no_energies": ("no energy labels", {"loss": {"energy_scale_mev_per_atom": 1e7}}),
}
OTHERS = ("random_circuit", "no_entangling", "normalised_small", "normalised_order_one")
VARIANTS = (*CONFIGS, *OTHERS)
DEAR = ("cz_n6",)
"""Variants that are run for one seed only."""


class Frozen:
    """An objective some of whose parameters stay where they are."""

    def __init__(self, objective, parameters, free):
        self._objective, self._parameters, self._free = objective, parameters.copy(), free

    def full(self, values):
        """All parameters."""
        parameters = self._parameters.copy()
        parameters[self._free] = values
        return parameters

    def loss(self, values):
        """Loss of the free ones."""
        return self._objective.loss(self.full(values))

    def quadratic_model(self, values):
        """As the objective's, for the free ones."""
        value, gradient, curvature = self._objective.quadratic_model(self.full(values))
        return value, gradient[self._free], curvature[np.ix_(self._free, self._free)]


class NormalisedObjective(Objective):
    """Without the norm M_00 multiplies the square of a varying amplitude; it is no constant that could be left out."""

    def operator_vector(self, parameters):
        """M with its first entry."""
        vector = super().operator_vector(parameters)
        for s, spec in enumerate(self.layout.specs):
            matrices = readout_matrices(build_program(spec), parameters[self.layout.angles[s]])
            vector[self.statistics.starts[s]] = parameters[self.layout.weights[s]] @ matrices[:, 0, 0]
        return vector

    def _jacobian_blocks(self, parameters):
        blocks = super()._jacobian_blocks(parameters)
        for s, spec in enumerate(self.layout.specs):
            program, angles = build_program(spec), parameters[self.layout.angles[s]]
            by_angle = readout_jacobian(program, angles)[..., 0, 0] @ parameters[self.layout.weights[s]]
            blocks[s][2][0] = np.concatenate([by_angle, readout_matrices(program, angles)[:, 0, 0]])
        return blocks


def errors(test, predictions):
    metrics = measure(compare(test, energies=[e for e, _ in predictions], forces=[f for _, f in predictions]))
    return {key: metrics.to_dict()[key] for key in ERRORS}


def of_field(field, test):
    return errors(test, [(p.energy, p.forces) for p in map(field.predict, test)])


def prepared_for(settings, frames):
    """Sums of a configuration, from the pool that all variants share."""
    config = parse_config(settings, where="ablation")
    return prepare(frames, config, pool=pool_of(frames, config))


def configured(settings, frames, test, seed):
    """Train with a configuration."""
    prepared = prepared_for(settings, frames)
    result = fit(prepared, rng=np.random.default_rng(seed))
    found = {"n_trainable": result.force_field.n_trainable, "loss": result.loss, "linear_loss": result.linear_loss}
    return found | {"bound": result.bound} | of_field(result.force_field, test)


def with_layout(settings, frames, n_qubits, layers, n_readouts):
    """Sums and an objective of a brickwork that the configuration's budget would not allow to be trained in full."""
    # Circuits that are too large for more than one register a species.
    circuit = CZ | {"n_qubits": n_qubits, "layers": 1, "n_readouts": 22}
    prepared = prepared_for(settings | {"circuit": circuit}, frames)
    old = prepared.objective.layout
    specs = (AnsatzSpec("brickwork_cz", "z_diagonal", 2**n_qubits, layers, n_readouts),) * len(old.specs)
    layout = ParameterLayout(specs, old.sizes, old.n_references)
    return prepared, Objective(prepared.objective.statistics, layout)


def finished(prepared, objective, parameters, n_trainable, test):
    found = {"n_trainable": int(n_trainable), "loss": objective.fit_loss(parameters)}
    found |= {"linear_loss": objective.linear_solution()[0], "bound": objective.bound()[0]}
    return found | of_field(replace(prepared, objective=objective).force_field(parameters), test)


def random_circuit(settings, frames, test, seed):
    prepared, objective = with_layout(settings, frames, 5, 4, 31)
    layout = objective.layout
    parameters = np.zeros(layout.n_parameters)
    parameters[: layout.n_angles] = np.random.default_rng(seed).uniform(-np.pi, np.pi, layout.n_angles)
    count = layout.n_parameters - layout.n_angles
    return finished(prepared, objective, solve_weights(objective, parameters), count, test)


def no_entangling(settings, frames, test, seed):
    prepared, objective = with_layout(settings, frames, 5, 1, 26)
    layout, rng = objective.layout, np.random.default_rng(seed)
    free = np.ones(layout.n_parameters, dtype=bool)
    for angles in layout.angles:
        free[angles.start + 5 : angles.stop] = False
    best = None
    for _ in range(5):
        start = np.zeros(layout.n_parameters)
        start[: layout.n_angles] = rng.normal(0.0, 0.7, layout.n_angles) * free[: layout.n_angles]
        start, frozen = solve_weights(objective, start), None
        frozen = Frozen(objective, start, free)
        run = levenberg_marquardt(frozen, start[free], SolverSettings(), progress=silent, label="fit")
        if best is None or run.losses[-1] < best[0]:
            best = run.losses[-1], frozen.full(run.parameters)
    return finished(prepared, objective, best[1], free.sum(), test)


def normalised_rows(frame, maps, statistics, r_cut):
    """Design rows of the products of normalised amplitudes, register by register."""
    atoms = atom_features([frame], maps, r_cut=r_cut)
    energy, forces, places = [], [], [0] * len(maps)
    for s, size in zip(statistics.owners, statistics.sizes, strict=True):
        own, d = atoms.species[s], int(size) - 1
        held = slice(places[s], places[s] + d)
        places[s], count = held.stop, len(own.features)
        x = np.concatenate([np.ones((count, 1)), own.features[:, held]], axis=1)
        norm = (x**2).sum(axis=1)
        rows, cols = np.triu_indices(d + 1)
        double = np.where(rows == cols, 1.0, 2.0)
        values = double * x[:, rows] * x[:, cols] / norm[:, None]
        slopes = -2.0 * x[:, 1:, None] * (values / norm[:, None])[:, None, :]
        column, share = np.arange(len(rows)), double / norm[:, None]
        for index, other in ((rows, cols), (cols, rows)):
            inside = index > 0
            slopes[:, index[inside] - 1, column[inside]] += (share * x[:, other])[:, inside]
        energy.append(values.sum(axis=0))
        columns = (np.arange(count)[:, None] * own.features.shape[1] + np.arange(held.start, held.stop)).ravel()
        forces.append(own.slopes[:, columns] @ slopes.reshape(count * d, len(rows)))
    return np.concatenate(energy), np.concatenate(forces, axis=1), atoms.counts[0]


def normalised(settings, frames, test, seed):
    """The same trees, trained on energies without the norm."""
    changed = {"circuit": TREE | {"n_qubits": 5}, "loss": {"shots": None}}
    # M_00 counts here, so every register has one number more than it has features.
    prepared = prepared_for(settings | changed | {"max_parameters": settings.get("max_parameters", 99) - 6}, frames)
    config = prepared.config
    old, r_cut = prepared.objective.statistics, config.descriptor.r_cut
    equations = NormalEquations.empty(len(old.equations.moment))
    for frame in frames:
        energy, forces, counts = normalised_rows(frame, prepared.maps, old, r_cut)
        padded = np.pad(forces, ((0, 0), (0, old.references.count)))
        add_frame(equations, frame, (energy, padded), counts, old.references, loss_weights(config))
    equations.symmetric()
    equations.gram /= len(frames)
    equations.moment /= len(frames)
    equations.constant /= len(frames)
    sizes = prepared.objective.layout.sizes
    specs = tuple(AnsatzSpec("ry_tree", "rank_one", size) for size in sizes)
    layout = ParameterLayout(specs, sizes, prepared.objective.layout.n_references)
    objective = NormalisedObjective(replace(old, equations=equations), layout)
    rng = np.random.default_rng(seed)
    _, terms, constants = objective.linear_solution()
    linear = BalancedObjective(objective, np.ones(len(terms))).parameters(np.concatenate([*terms, constants]))
    starts = [linear] + [linear + 0.3 * rng.normal(size=len(linear)) * (np.abs(linear) + 0.1) for _ in range(2)]
    solver = SolverSettings(max_iterations=config.optimizer.max_iterations)
    runs = [levenberg_marquardt(objective, start, solver, progress=silent, label="fit") for start in starts]
    run = min(runs, key=lambda run: run.losses[-1])
    vector, predictions = objective.operator_vector(run.parameters), []
    for frame in test:
        energy, forces, counts = normalised_rows(frame, prepared.maps, old, r_cut)
        constants = old.references.energies(vector[len(energy) :])
        value = float(energy @ vector[: len(energy)] + counts @ constants)
        predictions.append((value, (forces @ vector[: len(energy)]).reshape(-1, 3)))
    found = {"n_trainable": objective.layout.n_parameters, "loss": objective.fit_loss(run.parameters)}
    return (
        found
        | {"linear_loss": objective.linear_solution()[0], "bound": objective.bound()[0]}
        | errors(test, predictions)
    )


def run_variant(name, base, frames, test, seed):
    """What a variant is, and its errors."""
    if name in CONFIGS:
        words, settings = CONFIGS[name]
        merged = dict(base)
        for section, values in settings.items():
            merged[section] = merged.get(section, {}) | values
        return words, configured(merged, frames, test, seed)
    if name == "random_circuit":
        return "random circuit, trained readout, 5 qubits", random_circuit(base, frames, test, seed)
    if name == "no_entangling":
        return "no entangling gates, 5 qubits", no_entangling(base, frames, test, seed)
    norm = 0.1 if name == "normalised_small" else 5.5
    changed = base | {"compression": base.get("compression", {}) | {"feature_norm": norm}}
    words = f"normalised amplitudes without the norm, features of norm {norm:g}, 5 qubits"
    return words, normalised(changed, frames, test, seed)
