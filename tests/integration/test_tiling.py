"""Registers side by side: tiles of real coupling maps, joint circuits against separate ones, and what they cost."""

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeKingston, FakeMiami, FakeTorino

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, angles_for_vector, build_program
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Request
from qiskit_qff.evaluators.strategies.operator import assemble_pairs, measure_operators, pair_requests
from qiskit_qff.evaluators.tiling import TiledEvaluator, tile

SHOTS = 4096


def registers(rng, count, n_qubits=2) -> list[BoundProgram]:
    """Balanced rank-one registers with random linear terms."""
    found = []
    for _ in range(count):
        terms = rng.normal(size=2**n_qubits - 1)
        spec = AnsatzSpec("ry_tree", "rank_one", 2**n_qubits)
        vector = np.append(1.0, terms / np.linalg.norm(terms)) * np.sqrt(0.5)
        found.append(BoundProgram(build_program(spec), angles_for_vector(spec, vector), np.array([rng.normal()])))
    return found


def exact(bound) -> np.ndarray:
    evaluator = PrimitiveEvaluator(StatevectorEstimator())
    return assemble_pairs(bound, evaluator.evaluate(pair_requests(bound))).matrix


@pytest.mark.parametrize(
    ("device", "pairs", "threes"), [(FakeTorino, 30, 18), (FakeKingston, 30, 18), (FakeMiami, 20, 14)]
)
def test_tiles_are_disjoint_chains_of_the_device(device, pairs, threes) -> None:
    target = device().target
    bonds = {frozenset(pair) for pair in target.build_coupling_map().get_edges()}
    for n_qubits, at_least in ((2, pairs), (3, threes)):
        places = tile(target, n_qubits, at_least)
        assert {place.round for place in places} == {0}
        lines = [place.line for place in places]
        used = [qubit for line in lines for qubit in line.qubits]
        assert len(used) == len(set(used)) == n_qubits * at_least
        for line in lines:
            assert all(frozenset(pair) in bonds for pair in zip(line.qubits[:-1], line.qubits[1:], strict=True))
        scores = [line.score for line in lines]
        assert scores == sorted(scores)  # the first register, the one with the largest coefficients, has the best tile
    few = [place.line for place in tile(target, 2, 6)]
    touching = [
        (a, b)
        for a in few
        for b in few
        if a is not b and any(frozenset((i, j)) in bonds for i in a.qubits for j in b.qubits)
    ]
    assert not touching  # a spare qubit between neighbours where there is room


def test_registers_that_do_not_fit_take_another_round() -> None:
    places = tile(FakeTorino().target, 2, 100)
    assert len(places) == 100
    assert places[99].round > 0
    assert places[0].line == next(place.line for place in places if place.round == 1)
    with pytest.raises(BackendError, match="more registers"):
        TiledEvaluator(places, lambda _: None).evaluate([Request(None, None, register=100)])


def test_a_joint_circuit_measures_what_separate_ones_do(rng) -> None:
    """Ten registers on 133 qubits, by Aer's matrix product states; one PUB a setting."""
    device = FakeTorino()
    simulator = AerSimulator(
        method="matrix_product_state",
        coupling_map=device.coupling_map,
        basis_gates=["rz", "sx", "x", "cz"],
        n_qubits=device.num_qubits,
    )
    estimator, sent = Estimator(mode=simulator), []
    run = estimator.run

    def counted(pubs, **options):
        sent.append(len(pubs))
        return run(pubs, **options)

    estimator.run = counted
    inner = PrimitiveEvaluator(estimator, backend=simulator, shots=SHOTS, gaussian_noise=False, rng=rng)
    bounds = registers(rng, 10)
    tiled = TiledEvaluator(tile(device.target, 2, len(bounds)), lambda _: inner, is_joint=True)
    measured = measure_operators({2: tiled}, bounds, shots=SHOTS)
    assert sent == [1, 1, 1]  # one PUB a setting; a job of its own each, because a job has one seed here
    assert sum(one.cost.circuits for one in measured) == 3
    assert sum(one.cost.shots for one in measured) == 3 * SHOTS
    scores = []
    for bound, one in zip(bounds, measured, strict=True):
        errors = one.entry_errors()
        kept = errors > 1e-12
        scores += ((one.matrix - exact(bound))[kept] / errors[kept]).tolist()
    assert 0.6 < np.sqrt(np.mean(np.square(scores))) < 1.5
