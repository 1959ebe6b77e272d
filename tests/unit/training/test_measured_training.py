"""Training on measured losses: gradients, the cost that is told beforehand, resuming, optimisers, bad input."""

import numpy as np
import pytest
from fitting import fitted, silent

from qiskit_qff.errors import BackendError, ConfigError
from qiskit_qff.evaluators.backends import build_evaluator
from qiskit_qff.evaluators.exact import SampledEvaluator
from qiskit_qff.model.config import EstimatorConfig, parse_config
from qiskit_qff.training.measured.loss import MeasuredLoss
from qiskit_qff.training.measured.run import BackendRun, Machine, prepare_start, train_measured
from qiskit_qff.training.objective import solve_weights
from qiskit_qff.training.trainer import prepare

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


class CountingEvaluator:
    """Counts what is really run, and fails after a number of calls, as a killed process would."""

    def __init__(self, evaluator, calls=None):
        self.evaluator, self.calls, self.circuits = evaluator, calls, 0

    def evaluate(self, requests, *, shots=None):
        if self.calls is not None:
            if self.calls == 0:
                raise BackendError("killed")
            self.calls -= 1
        first = [request for request in requests if request.register == 0]
        self.circuits += sum(len(request.parameters) for request in first)  # the others are measured beside it
        return self.evaluator.evaluate(requests, shots=shots)


def side_by_side(objective, backend, *, shots=None, rng):
    return build_evaluator(backend, n_qubits=2, n_registers=len(objective.layout.specs), shots=shots, rng=rng)


def run(objective, *, backend="exact", calls=None, seed=3, start=None, journal=None, resume=False, **asked):
    start_rng, shot_rng = np.random.default_rng(seed).spawn(2)
    settings = EstimatorConfig(
        **({"backend": backend, "steps": 3, "start": "exact" if start is not None else "scratch"} | asked)
    )
    evaluator = CountingEvaluator(side_by_side(objective, backend, shots=settings.shots, rng=shot_rng), calls)
    result = train_measured(
        objective,
        Machine({2: evaluator}),
        settings,
        start=start,
        run=BackendRun(journal=journal, resume=resume, on_plan=silent),
        rng=start_rng,
        shot_rng=shot_rng,
    )
    return result, evaluator


@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
@pytest.mark.parametrize("backend", ["exact", "statevector"])
def test_loss_and_gradient_equal_the_computed_ones(frames, circuit, backend, rng):
    objective = prepare(frames, small_config(circuit)).objective
    layout = objective.layout
    angles = rng.normal(0.0, 0.7, layout.n_angles)

    def solved(angles):
        return solve_weights(objective, np.append(angles, np.zeros(layout.n_parameters - layout.n_angles)))

    value, half, _ = objective.quadratic_model(solved(angles))
    measured = MeasuredLoss(objective, {2: side_by_side(objective, backend, rng=rng)})
    sample = measured.sample(angles, slopes=True)
    assert sample.loss == pytest.approx(value, abs=1e-8)
    assert sample.std_error == 0.0
    np.testing.assert_allclose(sample.parameters, solved(angles), atol=1e-8)
    np.testing.assert_allclose(sample.slopes, 2.0 * half[: layout.n_angles], atol=1e-8)
    assert sample.cost == measured.cost(slopes=True)
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
    measured = MeasuredLoss(objective, {2: SampledEvaluator(rng, shots=shots)}, shots=shots)
    samples = [measured.sample(angles, slopes=slopes) for _ in range(150)]
    scores = np.array([(s.loss - objective.fit_loss(s.parameters)) / s.std_error for s in samples])
    assert abs(scores.mean()) < 0.3
    assert np.sqrt(np.mean(scores**2)) == pytest.approx(1.0, abs=0.2)


LOWERS = [
    ({"optimizer": "gauss_newton", "steps": 6}, 0.9),
    ({"optimizer": "adam", "steps": 40}, 0.9),
    ({"optimizer": "spsa", "steps": 80}, 0.97),
    ({"optimizer": "l_bfgs_b", "steps": 20}, 0.9),
    ({"optimizer": "adam", "steps": 40, "shots": 4096}, 0.9),
    ({"optimizer": "gauss_newton", "steps": 6, "shots": 4096}, 0.9),
]


# Not all on a brickwork: the last digits of a loss decide where 80 steps of SPSA end, below the start or above it.
@pytest.mark.parametrize(
    ("circuit", "asked", "share"),
    [
        pytest.param(circuit, asked, share, id="_".join(map(str, (circuit, *asked.values()))))
        for circuit, chosen in (("objective", LOWERS), ("brickwork", LOWERS[-2:]))
        for asked, share in chosen
    ],
)
def test_every_optimiser_lowers_the_exact_loss(request, circuit, asked, share):
    objective = request.getfixturevalue(circuit)
    result, _ = run(objective, **asked)
    assert result.final.exact_loss < share * result.start.exact_loss
    assert len(result.steps) <= asked["steps"]


@pytest.mark.parametrize(
    "asked",
    [
        {"backend": "statevector", "shots": 50},
        {"shots": 50},
        {"optimizer": "spsa", "shots": 200},
        {"optimizer": "l_bfgs_b"},
    ],
    ids=lambda asked: "_".join(map(str, asked.values())),
)
def test_resumed_run_equals_an_uninterrupted_one(objective, tmp_path, asked):
    whole, complete = run(objective, **asked)
    for number in (1, 4):
        journal = tmp_path / f"{number}.json"
        with pytest.raises(BackendError, match="killed"):
            run(objective, journal=journal, calls=number, **asked)
        again, rest = run(objective, journal=journal, resume=True, **asked)
        np.testing.assert_array_equal(again.parameters, whole.parameters)
        assert again.steps == whole.steps
        assert again.cost == whole.cost
        assert again.resumed == number
        assert rest.circuits < complete.circuits


def test_journal_belongs_to_one_run(frames, objective, tmp_path):
    journal = tmp_path / "journal.json"
    run(objective, journal=journal)
    with pytest.raises(ConfigError, match=r"optimizer = 'gauss_newton', now it is 'spsa'"):
        run(objective, journal=journal, resume=True, optimizer="spsa")
    other = prepare(frames[:5], small_config()).objective
    with pytest.raises(ConfigError, match="other training data"):
        run(other, journal=journal, resume=True)
    with pytest.raises(ConfigError, match="no journal"):
        run(objective, journal=tmp_path / "none.json", resume=True)


def filled(objective, angles):
    return np.append(angles, np.zeros(objective.layout.n_parameters - len(angles)))


def test_warm_starts(frames, tmp_path, rng):
    exact = small_config(estimator={"backend": "exact", "start": "exact"})
    prepared, start = prepare_start(frames, exact, rng=rng, progress=silent)
    objective = prepared.objective
    result, _ = run(objective, start=start, steps=2)
    # Where the exact solution ended, and far below any random start.
    assert result.start.loss <= objective.loss(solve_weights(objective, filled(objective, start))) * 1.001
    assert result.start.loss < 0.1 * run(objective, steps=1)[0].start.loss
    assert result.final.loss <= result.start.loss + 1e-9
    # Steps too long to improve anything leave the start, which is no worse.
    spoilt, _ = run(objective, start=start, steps=8, optimizer="adam", learning_rate=1.0)
    assert spoilt.final.loss <= spoilt.start.loss + 1e-9
    field = fitted(frames[:6], small_config(), rng=np.random.default_rng(1)).force_field
    field.save(tmp_path / "model.json")
    config = small_config(estimator={"backend": "exact", "start": str(tmp_path / "model.json")})
    again, angles = prepare_start(frames, config, rng=rng, progress=silent)
    np.testing.assert_array_equal(angles, np.concatenate([register.theta for register in field.registers.values()]))
    trained, _ = run(again.objective, start=angles, steps=4)
    assert trained.final.loss <= trained.start.loss + 1e-9
    kept = again.force_field(trained.parameters)
    assert [m.compression.to_dict() for m in kept.models] == [m.compression.to_dict() for m in field.models]
