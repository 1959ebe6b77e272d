"""The gradient of all registers at once: exact without shots, honest errors with them, 7 x 3 executions in all."""

import numpy as np
import pytest
from qiskit.primitives import BaseEstimatorV2, StatevectorEstimator
from qiskit.providers.fake_provider import GenericBackendV2

from qiskit_qff.circuit.ansatz import AnsatzSpec, build_program, readout_jacobian, readout_matrices
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.gradient import cost_of_registers, measure_registers
from qiskit_qff.evaluators.primitive import PrimitiveEvaluator
from qiskit_qff.evaluators.tiling import place

SPECS = [
    AnsatzSpec("ry_tree", "rank_one", 4),
    AnsatzSpec("ry_tree", "rank_one", 7),
    AnsatzSpec("brickwork_cz", "rank_one", 4, layers=2),
    AnsatzSpec("brickwork_rzz", "z_diagonal", 4, layers=1, n_readouts=3),
    AnsatzSpec("efficient_su2", ("XX", "IZ", "YX"), 4),
]


def circuits(rng, spec, count=3):
    return [(build_program(spec), rng.normal(size=spec.n_angles)) for _ in range(count)]


def exact(program, theta):
    """M_k and dM_k/dθ from matrices, zero beyond the amplitudes in use."""
    values = np.concatenate([readout_matrices(program, theta)[None], readout_jacobian(program, theta)])
    values[..., program.n_amplitudes :, :] = values[..., program.n_amplitudes :] = 0.0
    return values[0], values[1:]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("backend", ["exact", "statevector"])
def test_operators_and_derivatives_of_all_registers_are_exact(rng, spec, backend):
    registers = circuits(rng, spec)
    evaluator = build_evaluator(Settings(backend, None), [spec.n_qubits] * 3, rng=rng)
    measured = measure_registers(evaluator, registers, slopes=True)
    for one, (program, theta) in zip(measured, registers, strict=True):
        matrices, derivatives = exact(program, theta)
        for forms in (one.fitted, one.checked):
            np.testing.assert_allclose(forms.matrices[0], matrices, atol=1e-8)
        np.testing.assert_allclose(one.derivatives(), derivatives, atol=1e-8)


class SpyEstimator(BaseEstimatorV2):
    """Notes how many parameter sets each PUB has."""

    def __init__(self):
        self.inner, self.jobs = StatevectorEstimator(), []

    def run(self, pubs, *, precision=None):
        pubs = list(pubs)
        angles = [next(iter(values.values())) if isinstance(values, dict) else values for _, _, values in pubs]
        self.jobs.append([len(sets) for sets in angles])
        return self.inner.run(pubs, precision=precision)


@pytest.mark.parametrize("count", [1, 4])
def test_the_gradient_of_any_number_of_registers_is_one_job_of_seven_sets_in_three_settings(rng, count):
    device = GenericBackendV2(11, coupling_map=[[k, k + 1] for k in range(10)], seed=1)
    spy = SpyEstimator()
    tiles = place(device.target, [2] * count)
    evaluator = PrimitiveEvaluator(spy, backend=device, gaussian_noise=True, tiles=tiles)
    registers = circuits(rng, SPECS[0], count)
    measured = measure_registers(evaluator, registers, slopes=True)
    assert spy.jobs == [[7, 7, 7]]
    assert cost_of_registers(evaluator, registers, slopes=True).circuits == 21
    for one, (program, theta) in zip(measured, registers, strict=True):
        np.testing.assert_allclose(one.derivatives(), exact(program, theta)[1], atol=1e-8)


@pytest.mark.parametrize(("spec", "shots", "repetitions"), [(SPECS[0], 400, 300), (SPECS[3], 4000, 200)], ids=str)
def test_reported_errors_are_the_real_ones(rng, spec, shots, repetitions):
    """Of derivatives, and of M twice, whose errors are independent."""
    registers, evaluator = circuits(rng, spec, 1), ExactEvaluator(rng, shots=shots)
    probes = rng.normal(size=(spec.n_readouts, 4, 4))
    probes += probes.swapaxes(1, 2)
    scores = {"slopes": [], "fitted": [], "checked": []}
    for _ in range(repetitions):
        measured = measure_registers(evaluator, registers, slopes=True, shots=shots)
        for one, (program, theta) in zip(measured, registers, strict=True):
            matrices, derivatives = exact(program, theta)
            slopes, variances = one.slopes(probes)
            scores["slopes"].append((slopes - np.einsum("akij,kij->a", derivatives, probes)) / np.sqrt(variances))
            for name in ("fitted", "checked"):
                value, variance = getattr(one, name).contract(probes)
                scores[name].append((value - np.sum(matrices * probes)) / np.sqrt(variance))
    for found in scores.values():
        assert np.sqrt(np.mean(np.square(found))) == pytest.approx(1.0, abs=0.15)
    both = np.corrcoef(np.ravel(scores["fitted"]), np.ravel(scores["checked"]))[0, 1]
    assert abs(both) < 4.0 / np.sqrt(len(scores["fitted"]))
