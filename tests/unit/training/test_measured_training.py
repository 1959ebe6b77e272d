"""Training on measured losses: gradients, the cost that is told beforehand, resuming, optimisers, bad input."""

from contextlib import closing

import numpy as np
import pytest
from fitting import prepare, silent

from qiskit_qff.errors import ConfigError
from qiskit_qff.evaluators.backends import Settings, build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator
from qiskit_qff.evaluators.jobs import JobStore
from qiskit_qff.model.config import EstimatorConfig, parse_config
from qiskit_qff.training.measured.loss import MeasuredLoss
from qiskit_qff.training.measured.run import prepare_start, train_measured
from qiskit_qff.training.objective import solve_weights
from qiskit_qff.training.pipeline import resolve_config

TREE = {"n_qubits": 2}
BRICKWORK = {"family": "brickwork_cz", "readout": "z_diagonal", "n_qubits": 2, "layers": 2, "n_readouts": 3}
CIRCUITS = {
    "tree": TREE,
    "brickwork": BRICKWORK,
    "complex": BRICKWORK | {"family": "brickwork_rzz", "layers": 1},
    "rank one": {"family": "brickwork_cz", "readout": "rank_one", "n_qubits": 2, "layers": 2},
}


def small_config(circuit=TREE, **changes):
    small = {
        "descriptor": {"r_cut": 4.5, "n_radial": 2, "l_max": 2},
        "loss": {"shots": None},
        "circuit": circuit,
        "max_parameters": 40 if circuit["n_qubits"] == 2 and len(circuit) > 1 else 14,
    }
    return parse_config(small | changes, where="test")


@pytest.fixture(scope="module")
def objective(frames):
    """Registers of the default kind, of three features and fewer, of two species."""
    return prepare(frames, small_config()).objective


@pytest.fixture(scope="module")
def brickwork(frames):
    return prepare(frames, small_config(BRICKWORK)).objective


def side_by_side(objective, backend, *, shots=None, rng, jobs=None):
    sizes = [spec.n_qubits for spec in objective.layout.specs]
    return build_evaluator(Settings(backend, shots), sizes, rng=rng, jobs=jobs)


def run(objective, *, backend="exact", seed=3, start=None, jobs=None, **asked):
    start_rng, shot_rng = np.random.default_rng(seed).spawn(2)
    begin = start_rng.normal(0.0, 0.5, objective.layout.n_angles) if start is None else start
    settings = EstimatorConfig(
        **({"backend": backend, "steps": 3, "start": "exact" if start is not None else "scratch"} | asked)
    )
    evaluator = side_by_side(objective, backend, shots=settings.shots, rng=shot_rng, jobs=jobs)
    return train_measured(objective, evaluator, settings, begin)


@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
@pytest.mark.parametrize("backend", ["exact", "statevector"])
def test_loss_and_gradient_equal_the_computed_ones(frames, circuit, backend, rng):
    objective = prepare(frames, small_config(circuit)).objective
    layout = objective.layout
    angles = rng.normal(0.0, 0.7, layout.n_angles)

    def solved(angles):
        return solve_weights(objective, np.append(angles, np.zeros(layout.n_parameters - layout.n_angles)))

    value, half, _ = objective.quadratic_model(solved(angles))
    measured = MeasuredLoss(objective, side_by_side(objective, backend, rng=rng))
    sample = measured.sample(angles, slopes=True)
    assert sample.loss == pytest.approx(value, abs=1e-8)
    assert sample.std_error == 0.0
    np.testing.assert_allclose(sample.parameters, solved(angles), atol=1e-8)
    np.testing.assert_allclose(sample.slopes, 2.0 * half[: layout.n_angles], atol=1e-8)
    # Independently of any derivative in the code: the exact loss with weights solved again, along a direction.
    direction, step = rng.normal(size=layout.n_angles), 1e-5
    there, back = (objective.loss(solved(angles + side * step * direction)) for side in (1, -1))
    assert sample.slopes @ direction == pytest.approx((there - back) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize("circuit", ["objective", "brickwork"])
def test_losses_and_slopes_scatter_by_their_errors_about_the_exact_ones(request, circuit, slopes, rng):
    """The loss is that of the weights which the same sample has solved, not better."""
    objective = request.getfixturevalue(circuit)
    angles = rng.normal(0.0, 0.7, objective.layout.n_angles)
    # Errors are to first order, and the small data are fitted so well that few shots are far from it.
    shots = 200_000
    measured = MeasuredLoss(objective, ExactEvaluator(rng, shots=shots), shots=shots)
    samples = [measured.sample(angles, slopes=slopes) for _ in range(150)]
    scores = np.array([(s.loss - objective.fit_loss(s.parameters)) / s.std_error for s in samples])
    assert abs(scores.mean()) < 0.3
    assert np.sqrt(np.mean(scores**2)) == pytest.approx(1.0, abs=0.2)


LOWERS = [
    {"optimizer": "gauss_newton", "steps": 6},
    {"optimizer": "adam", "steps": 40},
    {"optimizer": "adam", "steps": 40, "shots": 4096},
    {"optimizer": "gauss_newton", "steps": 6, "shots": 4096},
]


@pytest.mark.parametrize(
    ("circuit", "asked"),
    [
        pytest.param(circuit, asked, id="_".join(map(str, (circuit, *asked.values()))))
        for circuit, chosen in (("objective", LOWERS), ("brickwork", LOWERS[-2:]))
        for asked in chosen
    ],
)
def test_every_optimiser_lowers_the_exact_loss(request, circuit, asked):
    result = run(request.getfixturevalue(circuit), **asked)
    assert result.final.exact_loss < 0.9 * result.start.exact_loss
    assert len(result.steps) <= asked["steps"]


@pytest.mark.parametrize("asked", [{"steps": 1}, {"optimizer": "adam", "steps": 1}], ids=["gauss_newton", "adam"])
def test_resumed_run_equals_an_uninterrupted_one(objective, tmp_path, monkeypatch, asked):
    """A run on Aer that is killed in a job goes on there, and pays for no other job again."""
    started, submit = [], JobStore.submit

    def killed(self, send, question, **options):
        if len(started) == 4:
            raise KeyboardInterrupt
        started.append(send)
        return submit(self, send, question, **options)

    asked = {"backend": "aer", "shots": 100} | asked
    with closing(JobStore(tmp_path / "whole", {})) as jobs:
        whole = run(objective, jobs=jobs, **asked)
    monkeypatch.setattr(JobStore, "submit", killed)
    with closing(JobStore(tmp_path / "killed", {})) as jobs, pytest.raises(KeyboardInterrupt):
        run(objective, jobs=jobs, **asked)
    monkeypatch.undo()
    with closing(JobStore(tmp_path / "killed", {})) as jobs:
        again = run(objective, jobs=jobs, **asked)
    assert again.steps == whole.steps
    np.testing.assert_array_equal(again.parameters, whole.parameters)
    assert again.cost == whole.cost
    assert again.resumed == 3  # the jobs of the first loss; the next ones were not read yet
    with (
        closing(JobStore(tmp_path / "whole", {})) as jobs,
        pytest.raises(ConfigError, match="other circuits or angles"),
    ):
        run(objective, jobs=jobs, seed=4, **asked)


def filled(objective, angles):
    return np.append(angles, np.zeros(objective.layout.n_parameters - len(angles)))


def test_warm_starts(frames, rng):
    exact = resolve_config(small_config(estimator={"backend": "exact", "start": "exact"}), frames)[0]
    prepared, start = prepare_start(frames, exact, rng=rng, progress=silent)
    objective = prepared.objective
    result = run(objective, start=start, steps=2)
    # Where the exact solution ended, and far below any random start.
    assert result.start.loss <= objective.loss(solve_weights(objective, filled(objective, start))) * 1.001
    assert result.start.loss < 0.1 * run(objective, steps=1).start.loss
    assert result.final.loss <= result.start.loss + 1e-9
    # Steps too long to improve anything leave the start, which is no worse.
    spoilt = run(objective, start=start, steps=8, optimizer="adam", learning_rate=1.0)
    assert spoilt.final.loss <= spoilt.start.loss + 1e-9
