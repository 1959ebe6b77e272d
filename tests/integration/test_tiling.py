"""Registers side by side: tiles of real coupling maps, joint circuits against separate ones, and what they cost."""

from itertools import pairwise

import numpy as np
import pytest
from qiskit.primitives import StatevectorEstimator
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2
from qiskit_ibm_runtime.executor_estimator import Estimator
from qiskit_ibm_runtime.fake_provider import FakeKingston, FakeMiami, FakeTorino

from qiskit_qff.circuit.ansatz import AnsatzSpec, BoundProgram, angles_for_vector, build_program, operator_matrix
from qiskit_qff.errors import BackendError
from qiskit_qff.evaluators.mitigation import estimator_options
from qiskit_qff.evaluators.operator import assemble_operator, operator_errors, operator_requests
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.protocol import Request
from qiskit_qff.evaluators.tiling import place

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


@pytest.mark.parametrize(
    ("device", "pairs", "threes"), [(FakeTorino, 30, 18), (FakeKingston, 30, 18), (FakeMiami, 20, 14)]
)
def test_tiles_are_disjoint_chains_of_the_device(device, pairs, threes) -> None:
    target = device().target
    bonds = {frozenset(pair) for pair in target.build_coupling_map().get_edges()}
    for n_qubits, at_least in ((2, pairs), (3, threes)):
        tiles = place(target, [n_qubits] * at_least)
        assert {tile.round for tile in tiles} == {0}
        used = [qubit for tile in tiles for qubit in tile.qubits]
        assert len(used) == len(set(used)) == n_qubits * at_least
        for tile in tiles:
            assert all(frozenset(pair) in bonds for pair in pairwise(tile.qubits))
        scores = [tile.score for tile in tiles]
        assert scores == sorted(scores)  # the first register, the one with the largest coefficients, has the best tile
    few = place(target, [2] * 6)
    touching = [
        (a, b)
        for a in few
        for b in few
        if a is not b and any(frozenset((i, j)) in bonds for i in a.qubits for j in b.qubits)
    ]
    assert not touching  # a spare qubit between neighbours where there is room


def test_registers_that_do_not_fit_take_another_round() -> None:
    tiles = place(FakeTorino().target, [2] * 100 + [1])
    assert len(tiles) == 101
    assert tiles[99].round > 0
    assert tiles[0].qubits == next(tile.qubits for tile in tiles if tile.round == 1)
    assert tiles[100].round == tiles[99].round + 1  # registers of another size
    with pytest.raises(BackendError, match="more registers"):
        PrimitiveEvaluator(StatevectorEstimator(), tiles=tiles).evaluate([Request(None, None, register=101)])


def test_a_joint_circuit_measures_what_separate_ones_do(rng, monkeypatch) -> None:
    """Ten registers on 133 qubits, by Aer's matrix product states; one PUB a setting.

    Executions are counted at the sampler below the runtime's Estimator.
    """
    device = FakeTorino()
    simulator = AerSimulator(
        method="matrix_product_state",
        coupling_map=device.coupling_map,
        basis_gates=["rz", "sx", "x", "cz"],
        n_qubits=device.num_qubits,
    )
    executions, run = [], SamplerV2.run

    def counted(self, pubs, **options):
        executions.extend(pub.shots * int(np.prod(pub.parameter_values.shape, dtype=int)) for pub in pubs)
        return run(self, pubs, **options)

    monkeypatch.setattr(SamplerV2, "run", counted)
    options = estimator_options("none", local=True)
    bounds = registers(rng, 10)
    tiles = place(device.target, [2] * len(bounds))
    evaluator = PrimitiveEvaluator(
        Estimator(mode=simulator, options=options),
        backend=simulator,
        shots=SHOTS,
        gaussian_noise=False,
        tiles=tiles,
        rng=rng,
    )
    requests = [request for number, bound in enumerate(bounds) for request in operator_requests(bound, number)]
    answers = evaluator.evaluate(requests)
    assert evaluator.cost(requests).circuits == 3
    assert evaluator.cost(requests).shots == sum(executions) == 3 * SHOTS
    scores = []
    for bound, own in zip(bounds, np.reshape(answers, (len(bounds), 3)), strict=True):
        measured = assemble_operator(bound, own)
        errors = np.linalg.norm(operator_errors(bound, measured), axis=0)
        kept = errors > 1e-12
        exact = operator_matrix(bound.program, bound.theta, bound.weights)
        scores += ((measured.matrix - exact)[kept] / errors[kept]).tolist()
    assert 0.6 < np.sqrt(np.mean(np.square(scores))) < 1.5
