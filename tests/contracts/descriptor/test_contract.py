"""The contract of descriptors, and what a model on one of them must do: train, files, dynamics, the command line."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from contracts.descriptor import contract
from contracts.force_field import contract as physics
from scipy.spatial.transform import Rotation

from qiskit_qff import ForceField, QFFCalculator, TrainConfig, register_descriptor, train
from qiskit_qff.descriptors import channels
from qiskit_qff.errors import ConfigError, ModelFileError


class Gaussians:
    """Sums of Gaussians over the neighbours of each element, smooth at the cutoff."""

    def __init__(self, species, r_cut, count=6):
        self.species, self.r_cut, self.centers = np.array(species), r_cut, np.linspace(1.5, r_cut, count)
        self.n_features = count * len(species)

    def __call__(self, numbers, first, neighbor, vectors):
        r = np.linalg.norm(vectors, axis=1)[:, None]
        switch, slope = (1 - (r / self.r_cut) ** 2) ** 3, -6 * r / self.r_cut**2 * (1 - (r / self.r_cut) ** 2) ** 2
        bare = np.exp(-2.0 * (r - self.centers) ** 2)
        kinds = np.eye(len(self.species))[np.searchsorted(self.species, numbers[neighbor])]
        pairs = np.einsum("pk,ps->psk", bare * switch, kinds).reshape(-1, self.n_features)
        along = np.einsum("pk,ps->psk", bare * (slope - 4.0 * (r - self.centers) * switch), kinds)
        values = np.zeros((len(first) - 1, self.n_features))
        np.add.at(values, np.repeat(np.arange(len(values)), np.diff(first)), pairs)
        return values, (vectors / np.maximum(r, 1e-300))[:, :, None] * along.reshape(-1, 1, self.n_features)


def soap(**options):
    """Smooth overlap of atomic positions by dscribe: the class of the how-to page."""
    pytest.importorskip("dscribe")
    page = Path(__file__).parents[3] / "docs" / "tutorials" / "own_descriptor.md"
    code, names = page.read_text().split("```python")[1].split("register_descriptor(")[0], {}
    exec(compile(code, page, "exec"), names)
    return names["Soap"](**options)


MAKERS = {"gaussians": Gaussians, "soap": soap}
if asked := os.environ.get("QFF_DESCRIPTOR"):
    module, _, attribute = asked.partition(":")
    MAKERS["yours"] = getattr(importlib.import_module(module), attribute)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(channels, "DESCRIPTORS", dict(channels.DESCRIPTORS))
    for name, maker in MAKERS.items():
        register_descriptor(name, maker)


@pytest.fixture(params=MAKERS)
def tables(request):
    return contract.tables_of(request.param, {})


def test_it_keeps_the_contract(tables, alloy_frames, rng) -> None:
    atoms = alloy_frames[0]
    contract.check_invariance(tables, atoms, Rotation.random(rng=rng).as_matrix(), rng.permutation(len(atoms)))
    contract.check_derivatives(tables, atoms)
    contract.check_extensivity(tables, atoms)
    contract.check_cutoff(tables, atoms)


def settings(name, **arguments):
    """A small model on a descriptor."""
    own = {"name": name} | arguments
    return {"max_parameters": 20, "descriptor": {"r_cut": contract.R_CUT, "own": own}}


@pytest.mark.parametrize("name", MAKERS)
def test_it_trains_and_its_model_is_a_force_field(name, alloy_frames, tmp_path) -> None:
    trained = train(alloy_frames, TrainConfig.model_validate(settings(name)))
    mean = np.mean([1e3 * np.abs(atoms.get_forces()).mean() for atoms in alloy_frames])
    assert trained.metrics["test"].force_mae_mev_per_ang < 0.7 * mean
    trained.force_field.save(tmp_path / "model.json")
    field, atoms = ForceField.load(tmp_path / "model.json").within_walls(), alloy_frames[0].copy()
    trained_on = trained.force_field.predict(trained.data.frames[0])
    np.testing.assert_array_equal(field.predict(trained.data.frames[0]).forces, trained_on.forces)
    atoms.rattle(0.3, seed=1)
    physics.check_forces(field, atoms)  # far enough out for the walls and the core
    physics.check_virial(field, atoms)
    atoms.calc = QFFCalculator(field, uncertainty=True)
    assert atoms.get_potential_energy() == pytest.approx(physics.evaluate(field, atoms).energy)
    assert (atoms.calc.results["force_std"] > 0.0).all()
    calm = alloy_frames[0].copy()
    physics.check_energy_conservation(field, calm, tmp_path / "nve", temperature_k=100.0, timestep_fs=2.0)


def test_commands_find_it_as_an_entry_point(alloy_frames, tmp_path, qff, monkeypatch) -> None:
    """A model of the command line is that of Python; what can only be done with built-in channels is refused."""
    monkeypatch.setattr(channels, "DESCRIPTORS", {})
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[qiskit_qff.descriptor]\nmine = contracts.descriptor.test_contract:Gaussians\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "data.extxyz", alloy_frames)
    (tmp_path / "mine.yaml").write_text(
        "data: {path: data.extxyz}\nmax_parameters: 20\ndescriptor: {r_cut: 4.0, own: {name: mine, count: 5}}\n"
    )
    qff("train", tmp_path / "mine.yaml", "--out", tmp_path / "run")
    model = tmp_path / "run" / "model.json"
    train(tmp_path / "data.extxyz", TrainConfig.model_validate(settings("mine", count=5))).force_field.save(
        tmp_path / "python.json"
    )
    errors = [qff("evaluate", path, tmp_path / "data.extxyz")[0] for path in (model, tmp_path / "python.json")]
    assert errors[0] == errors[1]
    qff(
        "calibrate",
        model,
        "--backend",
        "aer",
        "--shots",
        1000,
        "--run",
        tmp_path / "jobs",
        "--out",
        tmp_path / "c.json",
    )
    assert qff("info", model)[0]["n_trainable"] <= 20
    qff("md", model, tmp_path / "data.extxyz", "--steps", 5, "--out", tmp_path / "md")
    message = qff("export", model, "--out", tmp_path / "plain.json", code=2)[1]
    assert "'mine' is code" in message
    monkeypatch.setattr(channels, "entry_points", lambda **_: ())
    monkeypatch.setattr(channels, "DESCRIPTORS", {})
    with pytest.raises(ModelFileError, match=r"Unknown descriptor 'mine'; register it"):
        ForceField.load(model)


def test_what_does_not_fit_is_refused(alloy_frames, tmp_path, qff) -> None:
    (tmp_path / "c.yaml").write_text("descriptor: {own: {name: nonesuch}}\n")
    assert "Unknown descriptor 'nonesuch'" in qff("train", tmp_path / "c.yaml", "--out", tmp_path / "run", code=2)[1]
    with pytest.raises(ConfigError, match="cannot be made with"):
        train(alloy_frames, TrainConfig.model_validate(settings("gaussians", colour=3)))
    register_descriptor("wrong", type("Wrong", (Gaussians,), {"__call__": lambda *_: (np.zeros(1), np.zeros(1))}))
    with pytest.raises(ConfigError, match=r"returned arrays of shapes \(1,\)"):
        train(alloy_frames, TrainConfig.model_validate(settings("wrong")))
