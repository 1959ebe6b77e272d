"""The force field through JAX on the processor: the numbers of the compiled kernels, few compilations, clear errors."""

import sys

import numpy as np
import pytest
from ase import Atoms
from contracts.force_field.contract import evaluate
from contracts.force_field.lennard_jones import mixed_crystal
from contracts.force_field.quantum_model import labelled_frames, small_quantum_model
from hypothesis import given, settings
from hypothesis import strategies as st

from qiskit_qff.cli.main import run
from qiskit_qff.errors import BackendError, ConfigError, DataError, MissingDependencyError
from qiskit_qff.model.accelerator.engine import DeviceForceField, on_device
from qiskit_qff.model.accelerator.layout import MOST, make_blocks, power_of_four, rounded_up
from qiskit_qff.model.config import parse_config
from qiskit_qff.simulation.calculator import QFFCalculator
from qiskit_qff.structures.frame import Frame
from qiskit_qff.structures.neighbors import VerletList, neighbor_list
from qiskit_qff.structures.shipped import read_shipped
from qiskit_qff.training.trainer import train

jax = pytest.importorskip("jax", reason="jax is not installed")


@pytest.fixture(scope="module")
def field():
    return small_quantum_model()


@pytest.fixture(scope="module")
def device(field):
    return DeviceForceField(field, "cpu-jax")


def assert_same(found, expected, *, tolerance=1e-10):
    for name in ("energies", "forces", "virial"):
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, np.abs(other).max()), err_msg=name)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    n_atoms=st.integers(1, 24),
    pbc=st.tuples(*[st.booleans()] * 3),
)
def test_random_structures(field, device, seed, n_atoms, pbc):
    rng = np.random.default_rng(seed)
    cell = 9.0 * np.eye(3) + rng.uniform(-1.0, 1.0, (3, 3))
    grid = np.stack(np.meshgrid(*[np.arange(3) / 3.0] * 3), axis=-1).reshape(-1, 3)
    positions = rng.permutation(grid)[:n_atoms] @ cell + rng.uniform(-0.6, 0.6, (n_atoms, 3))
    atoms = Atoms(rng.choice([18, 36], n_atoms), positions=positions, cell=cell, pbc=pbc)
    assert_same(evaluate(device, atoms), evaluate(field, atoms))


@pytest.fixture(scope="module")
def framework():
    """Five elements, channels of two degrees, and products."""
    frames = read_shipped()[:3]
    options = {
        "descriptor": {"r_cut": 4.0, "n_narrow": 4, "n_broad": 2, "n_radial": 2, "l_max": 1, "products": 2},
        "optimizer": {"restarts": 1, "max_iterations": 30},
        "max_parameters": 40,
    }
    return train(frames, parse_config(options, where="test"), rng=np.random.default_rng(0)).force_field, frames


def test_shipped_structures(framework):
    field, frames = framework
    assert sum(len(m.compression.channels.products) for m in field.models) > 3
    device = DeviceForceField(field, "cpu-jax")
    for found, frame in zip(device.predict_many(frames), frames, strict=True):
        assert_same(found, field.predict(frame))


def test_float32_forces_are_within_20_micro_ev_per_ang(framework):
    field, frames = framework
    device = DeviceForceField(field, "cpu-jax", precision="float32")
    found, expected = device.predict(frames[0]), field.predict(frames[0])
    assert found.forces.dtype == np.float64
    error = found.forces - expected.forces
    assert 0.0 < np.sqrt(np.mean(error**2)) < 2e-5
    assert abs(found.energy - expected.energy) / len(error) < 1e-5


def test_many_structures_with_few_compilations(field):
    device = DeviceForceField(field, "cpu-jax")
    frames, taken = labelled_frames(8), []
    chosen = [frames[k % 8] for k in range(30)]

    def stream():
        for k, frame in enumerate(chosen):
            taken.append(k)
            yield frame

    predictions = device.predict_many(stream(), batch_atoms=150)
    first = next(predictions)
    assert len(taken) < 20  # two batches ahead, not all
    for found, frame in zip([first, *predictions], chosen, strict=True):
        assert_same(found, field.predict(frame))
    compiled = device.n_compiled
    for size in (23, 25, 26, 28):
        assert len(list(device.predict_many(chosen[:size], batch_atoms=10**6))) == size
    assert device.n_compiled <= compiled + 2 * len(field.species)  # four sizes, at most two shapes
    assert list(device.predict_many([])) == []


def test_structures_of_different_kinds_in_one_batch(field, device):
    crystal = mixed_crystal(2, rattle=0.1)
    flake = crystal[:7]
    flake.pbc = (True, True, False)
    alone = Atoms([36], positions=[[1.0, 2.0, 3.0]])
    frames = [
        Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc) for atoms in (alone, crystal, flake, alone)
    ]
    for found, frame in zip(device.predict_many(frames), frames, strict=True):
        assert_same(found, field.predict(frame))


def test_centers_of_one_process_with_its_ghosts(field, device):
    """The first atoms are centres, the others their neighbours: what LAMMPS gives each process."""
    atoms = mixed_crystal(2, rattle=0.1)
    full = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, field.cutoff)
    own = 5
    end = full.first[own]
    part = type(full)(
        full.first[: own + 1], full.neighbor[:end], full.vectors[:end], full.distances[:end], full.shifts[:end]
    )
    arguments = atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, part
    # The core repulsion is that of pairs of centres here; out of its reach both count alike.
    assert full.distances.min() > field.repulsion.level.max()
    assert_same(device.evaluate(*arguments), field.evaluate(*arguments))


def test_calculator_follows_moving_atoms(field, device):
    one, other = mixed_crystal(2, rattle=0.1), mixed_crystal(2, rattle=0.1)
    one.calc, other.calc = QFFCalculator(device, skin=0.3), QFFCalculator(field, skin=0.3)
    rng = np.random.default_rng(0)
    for step in range(12):
        move = 0.04 * rng.standard_normal(one.positions.shape)
        for atoms in (one, other):
            atoms.positions += move
            if step == 6:
                atoms.numbers[[0, 1]] = 36, 18
            if step == 9:
                atoms.set_cell(1.01 * atoms.cell, scale_atoms=True)
        for found, expected in ((one.get_forces(), other.get_forces()), (one.get_stress(), other.get_stress())):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(one.calc.n_neighbors, other.calc.n_neighbors)
    assert 1 < one.calc._verlet_list.n_builds < 12
    one.positions[1] = one.positions[0] + [0.0, 0.0, 0.001]
    with pytest.raises(DataError, match=r"atoms 0 and 1 are 0\.001 Å apart"):
        one.get_forces()


def test_large_structures_are_several_blocks(monkeypatch, field):
    monkeypatch.setattr("qiskit_qff.model.accelerator.layout.MOST", 16)
    atoms = mixed_crystal(3, rattle=0.1)
    kinds = np.searchsorted(field.species, atoms.numbers)
    pairs = VerletList(field.cutoff, 0.0).pairs(atoms.positions, atoms.cell.array, atoms.pbc)
    blocks = make_blocks(kinds, np.zeros(len(atoms), dtype=np.int64), pairs)
    assert len(blocks) > 2
    assert {block.neighbors.shape[0] for block in blocks} == {16}
    assert sorted(np.concatenate([block.centers[: block.n_centers] for block in blocks])) == list(range(len(atoms)))
    assert_same(evaluate(DeviceForceField(field, "cpu-jax"), atoms), evaluate(field, atoms))


def test_sizes_are_rounded_up_by_half_at_most():
    sizes = [rounded_up(n) for n in range(1, 2 * MOST)]
    assert all(n <= size <= max(16, 1.5 * n) for n, size in enumerate(sizes, start=1))
    assert len(set(sizes)) < 30
    assert [power_of_four(n) for n in (1, 16, 17, 64, 65, 100_000)] == [16, 16, 64, 64, 256, 2**18]


def test_unknown_species(device):
    frame = labelled_frames(1)[0]
    strange = Frame(np.full(len(frame.numbers), 3), frame.positions, frame.cell, frame.pbc)
    with pytest.raises(DataError, match="element Li is unknown"):
        device.predict(strange)


def test_global_settings_of_jax_stay_as_they_are(device):
    device.predict(labelled_frames(1)[0])
    assert jax.numpy.arange(3.0).dtype == np.float32


def test_devices_that_are_not_there(field, monkeypatch):
    with pytest.raises(ConfigError, match=r"device 'cuda' is unknown; choose cpu, gpu or cpu-jax"):
        on_device(field, "cuda")
    with pytest.raises(ConfigError, match="'half' is unknown"):
        on_device(field, "gpu", precision="half")
    with pytest.raises(ConfigError, match="'float32' is for --device gpu"):
        on_device(field, "cpu", precision="float32")
    with pytest.raises(ConfigError, match="go with a model file"):
        QFFCalculator(field, device="cpu-jax")
    if not any(found.platform == "gpu" for found in jax.devices()):
        with pytest.raises(BackendError, match=r"no graphics processor, only cpu.*qiskit_qff\[gpu\]"):
            on_device(field, "gpu")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qiskit_qff\[gpu\]'"):
        on_device(field, "gpu")


def test_command_line(field, tmp_path, capsys):
    import json

    from ase.io import write

    field.save(tmp_path / "model.json")
    data, model = str(tmp_path / "data.extxyz"), str(tmp_path / "model.json")
    write(data, [frame.to_atoms() for frame in labelled_frames(3)])
    results = []
    for options in ([], ["--device", "cpu-jax"]):
        assert run(["evaluate", model, data, *options, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert results[1].pop("device") == "cpu-jax"
    assert results[1].pop("precision") == "float64"
    assert results[0].keys() == results[1].keys()
    key = "force_rmse_mev_per_ang"
    assert results[1][key] == pytest.approx(results[0][key], rel=1e-9)
    out = ["--out", str(tmp_path / "md"), "--steps", "4", "--interval", "2", "--ensemble", "nve"]
    assert run(["md", model, data, *out, "--device", "cpu-jax", "--temperature", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 4
    assert run(["evaluate", model, data, "--device", "cpu-jax", "--shots", "10"]) == 2
    assert "--device and --precision are of the exact model" in capsys.readouterr().err
    assert run(["md", model, data, *out, "--precision", "float32"]) == 2
