"""The quantum model and all baselines, fitted to the same frames from the same sums over the pool; and their errors.

The quantum model is that of `qiskit_qff.train`. Baselines and ablations share sums over the pool, which are made once
for a list of frames and kept for the next call with the same frames.
"""

import time
from dataclasses import dataclass, field

import numpy as np
from ase.data import chemical_symbols

from qiskit_qff import train
from qiskit_qff.cli.baseline_run import NAMES, SNAP
from qiskit_qff.cli.baseline_snap import snap_baselines
from qiskit_qff.errors import MissingDependencyError
from qiskit_qff.model.metrics import compare, measure
from qiskit_qff.structures.species import species_of
from qiskit_qff.training.baselines.suite import BASELINES, BaselineData
from qiskit_qff.training.defaults import resolve_config
from qiskit_qff.training.statistics import find_shortest
from qiskit_qff.training.trainer import loss_weights, sum_pool
from suite.data import condition, replicated

QUANTUM, NOISELESS = "quantum", "quantum_noiseless"
WORDS = {
    QUANTUM: "quantum model, as trained by default: shot noise of the configured shots a state counts as loss",
    NOISELESS: "quantum model, trained without regard to shot noise on the same channels",
}
LINEAR = ("mean", "linear_same_channels", "linear_selected")
ERRORS = ("energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "force_mae_mev_per_ang", "force_rmse_mev_per_ang")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model fitted to some frames."""

    name: str
    words: str
    n_trainable: int
    within_limit: bool
    predict: object
    """Energy in eV and forces in eV/Å of a frame."""
    seconds: float
    facts: dict = field(default_factory=dict)
    """Losses and numbers of channels."""


_kept = {}


def silent(*_):
    """Report nothing."""


def pool_of(frames, config):
    """Sums over the pool of channels; the last ones are kept."""
    config, _ = resolve_config(config, frames)
    settings = (config.descriptor, config.compression.selection_frames, config.loss.model_copy(update={"shots": None}))
    key = (tuple(id(f) for f in frames), *(str(s) for s in settings))
    if _kept.get("key") != key:
        _kept.clear()
        species = species_of(frames)
        shortest = find_shortest(frames, species, config.descriptor.r_cut, silent)
        pool = sum_pool(frames, species, shortest, config, loss_weights(config), silent)
        # The frames stay alive with the key, so that no other object can take over their identity.
        _kept.update(key=key, pool=pool, frames=frames)
    return _kept["pool"]


def fit_models(frames, config, names=NAMES, *, seed, noiseless=True):
    """The quantum model and some baselines.

    Args:
        frames: Frames to fit to.
        config: The configuration of ``qff train``.
        names: Which baselines.
        seed: Of all random starts.
        noiseless: Whether to train the circuit a second time without counting shot noise.
    """
    config = with_section(config, "data", split="none").model_copy(update={"seed": seed})
    trained = train(frames, config)
    model, settings = trained.force_field, trained.config
    found = [_quantum(QUANTUM, trained)]
    if noiseless:
        found.append(_quantum(NOISELESS, train(frames, with_section(config, "loss", shots=None), channels_of=model)))
    if names:
        pool, maps = pool_of(frames, settings), {m.number: m.compression for m in model.models}
        species, weights = species_of(frames), loss_weights(settings)
        data = BaselineData(list(frames), settings, species, pool, weights, model.repulsion, maps)
        for name in names:
            found += _baselines(name, data, seed)
    return found


def with_section(config, section, **values):
    """The configuration with some settings of one section changed."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def _quantum(name, trained):
    model, result = trained.force_field, trained.result
    channels = {chemical_symbols[m.number]: m.compression.n_features for m in model.models}
    facts = {"loss": result.loss, "linear_loss": result.linear_loss, "bound": result.bound, "channels": channels}
    facts["registers"] = {chemical_symbols[m.number]: len(m.registers) for m in model.models}

    def predict(frame):
        prediction = model.predict(frame)
        return prediction.energy, prediction.forces

    within = model.n_trainable <= trained.config.max_parameters
    return Fitted(name, WORDS[name], model.n_trainable, within, predict, trained.seconds, facts)


def _baselines(name, data, seed):
    begin = time.perf_counter()
    try:
        if name == SNAP:
            models = snap_baselines(data, silent)
        else:
            models = [BASELINES[name](data, np.random.default_rng(seed), silent)]
    except MissingDependencyError as error:
        print(f"{name}: skipped: {error}", flush=True)
        return []
    seconds = (time.perf_counter() - begin) / len(models)
    limit = data.config.max_parameters
    return [
        Fitted(m.name, m.words, m.ledger.n_trainable, m.ledger.n_trainable <= limit, m.predict, seconds) for m in models
    ]


def describe(model):
    """What a record says of a model beside its errors."""
    known = {"words": model.words, "n_trainable": model.n_trainable, "within_limit": model.within_limit}
    return known | {"seconds": round(model.seconds, 1)} | model.facts


def errors(model, frames, *, set_name=None, shift_energy=False):
    """Errors on some frames: in all, of the forces by element, and by temperature or origin where that is known."""
    predictions = [model.predict(frame) for frame in frames]
    found = _errors(frames, predictions, shift_energy=shift_energy, by_element=True)
    conditions = [condition(set_name, frame) for frame in frames]
    if set_name is not None and None not in conditions:
        found["conditions"] = {}
        for one in sorted(set(conditions)):
            own = [k for k, other in enumerate(conditions) if other == one]
            part = _errors([frames[k] for k in own], [predictions[k] for k in own], shift_energy=shift_energy)
            found["conditions"][one] = {"n_frames": len(own)} | part
    return found


def _errors(frames, predictions, *, shift_energy, by_element=False):
    pairs = compare(
        frames, energies=[e for e, _ in predictions], forces=[f for _, f in predictions], shift_energy=shift_energy
    )
    metrics = measure(pairs, shift_energy=shift_energy)
    found = {key: round(getattr(metrics, key), 4) for key in ERRORS}
    if by_element:
        found["elements"] = {
            symbol: {
                "force_mae_mev_per_ang": round(e.force_mae_mev_per_ang, 3),
                "force_rmse_mev_per_ang": round(e.force_rmse_mev_per_ang, 3),
            }
            for symbol, e in metrics.species.items()
        }
    return found


def extensivity(model, frame):
    """How far eight copies of a cell are from eight times the cell: energy in meV/atom, largest force in meV/Å."""
    energy, forces = model.predict(frame)
    total, all_forces = model.predict(replicated(frame))
    off = np.abs(all_forces - np.tile(forces, (8, 1))).max()
    per_atom = abs(total / (8 * frame.n_atoms) - energy / frame.n_atoms)
    return {
        "atoms": 8 * frame.n_atoms,
        "energy_mev_per_atom": 1e3 * float(per_atom),
        "force_mev_per_ang": 1e3 * float(off),
    }
