"""Training on measured losses: gradients, the cost that is told beforehand, resuming, optimisers, bad input."""

import json

import numpy as np
import pytest
from fitting import fitted
from unit.training.conftest import lennard_jones_frames

from qiskit_qff.errors import BackendError, BudgetError, ConfigError, DataError
from qiskit_qff.evaluators.backends import build_evaluator
from qiskit_qff.evaluators.exact import ExactEvaluator, SampledEvaluator
from qiskit_qff.model.config import parse_config
from qiskit_qff.training.measured.loss import MeasuredLoss
from qiskit_qff.training.measured.optimizers import OptimizerSettings
from qiskit_qff.training.measured.run import MeasuredSettings, train_measured
from qiskit_qff.training.measured.start import prepare_start
from qiskit_qff.training.solver import solve_weights
from qiskit_qff.training.trainer import prepare

BRICKWORK = {"family": "brickwork_cz", "readout": "z_diagonal", "n_qubits": 2, "layers": 2, "n_readouts": 3}
CIRCUITS = {
    "brickwork": BRICKWORK,
    "complex": BRICKWORK | {"family": "brickwork_rzz", "layers": 1},
    "rank one": {"family": "brickwork_cz", "readout": "rank_one", "n_qubits": 2, "layers": 2},
}


def small_config(circuit=BRICKWORK, **changes):
    small = {
        "descriptor": {"r_cut": 4.5, "n_narrow": 6, "n_broad": 3, "n_radial": 2, "l_max": 2},
        "optimizer": {"restarts": 1, "max_iterations": 20},
        "loss": {"shots": None},
        "circuit": circuit,
    }
    return parse_config(small | changes, where="test")


@pytest.fixture(scope="module")
def objective(frames):
    return prepare(frames, small_config()).objective


class CountingEvaluator:
    """Counts what is really run, and fails after a number of calls, as a killed process would."""

    def __init__(self, evaluator, calls=None):
        self.evaluator, self.calls, self.circuits, self.shots = evaluator, calls, 0, 0

    def evaluate(self, requests, *, shots=None):
        if self.calls is not None:
            if self.calls == 0:
                raise BackendError("killed")
            self.calls -= 1
        count = sum(len(request.parameters) for request in requests)
        self.circuits += count
        self.shots += count * (shots or 0)
        return self.evaluator.evaluate(requests, shots=shots)


def run(
    objective, *, backend="exact", shots=None, calls=None, seed=3, start=None, candidates=3, plans=None, **settings
):
    options = {key: settings.pop(key) for key in ("journal", "resume") if key in settings}
    start_rng, shot_rng = np.random.default_rng(seed).spawn(2)
    evaluator = CountingEvaluator(build_evaluator(backend, n_qubits=2, shots=shots, rng=shot_rng), calls)
    chosen = OptimizerSettings(**({"name": "adam", "steps": 3, "seed": seed} | settings))
    result = train_measured(
        objective,
        {2: evaluator},
        MeasuredSettings(optimizer=chosen, shots=shots, candidates=candidates, **options),
        start=start,
        rng=start_rng,
        shot_rng=shot_rng,
        on_plan=None if plans is None else lambda plan: plans.append((plan, evaluator.circuits)),
    )
    return result, evaluator


@pytest.mark.parametrize("circuit", CIRCUITS.values(), ids=CIRCUITS)
@pytest.mark.parametrize("backend", ["exact", "statevector"])
def test_loss_and_gradient_equal_the_computed_ones(frames, circuit, backend, rng):
    objective = prepare(frames, small_config(circuit)).objective
    layout = objective.layout
    evaluators = {2: build_evaluator(backend, n_qubits=2, rng=rng)}
    angles = rng.normal(0.0, 0.7, layout.n_angles)
    solved = solve_weights(objective, np.concatenate([angles, np.zeros(layout.n_parameters - layout.n_angles)]))
    value, half, _ = objective.quadratic_model(solved)
    measured = MeasuredLoss(objective, evaluators)
    sample = measured.sample(angles)
    slopes = measured.slopes(sample)
    assert sample.loss == pytest.approx(value, abs=1e-8)
    assert sample.std_error == 0.0
    np.testing.assert_allclose(sample.parameters, solved, atol=1e-8)
    np.testing.assert_allclose(slopes.slopes, 2.0 * half[: layout.n_angles], atol=1e-8)
    assert sample.cost.circuits == measured.loss_circuits
    assert slopes.cost.circuits == measured.slope_circuits


def test_loss_with_shots_scatters_by_its_error_about_the_exact_one(objective, rng):
    angles = rng.normal(0.0, 0.7, objective.layout.n_angles)
    exact = MeasuredLoss(objective, {2: ExactEvaluator()}).sample(angles).loss
    # Weights solved on noisy matrices make the loss too small; that falls with shots, the error with their root.
    shots = 20_000_000
    measured = MeasuredLoss(objective, {2: SampledEvaluator(rng, shots=shots)}, shots=shots)
    samples = [measured.sample(angles) for _ in range(100)]
    scores = np.array([(sample.loss - exact) / sample.std_error for sample in samples])
    assert abs(scores.mean()) < 0.5
    assert 0.75 < scores.std() < 1.3


def test_shots_are_not_more_than_asked_for(objective, rng):
    counter = CountingEvaluator(SampledEvaluator(rng, shots=512))
    measured = MeasuredLoss(objective, {2: counter}, shots=512, slope_shots=128)
    sample = measured.sample(rng.normal(size=objective.layout.n_angles))
    assert counter.shots == sample.cost.shots == 512 * measured.loss_circuits
    slopes = measured.slopes(sample)
    assert counter.shots - sample.cost.shots == slopes.cost.shots
    assert 0.9 * 128 * measured.slope_circuits < slopes.cost.shots <= 128 * measured.slope_circuits


@pytest.mark.parametrize(
    "optimizer",
    [{"name": "adam"}, {"name": "spsa"}, {"name": "spsa", "learning_rate": 0.05}, {"name": "adam", "steps": 9}],
    ids=["adam", "spsa", "spsa_with_rate", "adam_averaged"],
)
@pytest.mark.parametrize("shots", [None, 64])
def test_cost_told_beforehand_is_the_cost(objective, optimizer, shots):
    plans = []
    result, evaluator = run(objective, shots=shots, plans=plans, **optimizer)
    ((plan, run_before),) = plans
    assert run_before == 0
    assert plan.total.circuits == evaluator.circuits == result.cost.circuits
    assert evaluator.shots == result.cost.shots
    assert 0.95 * plan.total.shots <= evaluator.shots <= plan.total.shots
    marks = [step.circuits for step in (result.start, *result.steps)]
    assert np.all(np.diff(marks[1:]) == plan.step.circuits)


@pytest.mark.parametrize("name", ["adam", "spsa"])
def test_cost_of_a_warm_start_and_its_end(objective, rng, name):
    plans = []
    start = rng.normal(size=objective.layout.n_angles)
    result, evaluator = run(objective, name=name, steps=8, start=start, plans=plans)
    assert plans[0][0].total.circuits == evaluator.circuits
    assert result.kept in {"last", "average", "start"}
    assert result.final.loss <= result.start.loss + 1e-9


def test_line_search_takes_at_least_what_was_told(objective):
    plans = []
    result, evaluator = run(objective, name="l_bfgs_b", steps=5, plans=plans)
    assert evaluator.circuits == result.cost.circuits >= plans[0][0].total.circuits


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({"name": "adam", "steps": 40}, 0.9),
        ({"name": "spsa", "steps": 80}, 0.97),
        ({"name": "l_bfgs_b", "steps": 20}, 0.9),
        ({"name": "adam", "steps": 40, "shots": 4096}, 0.9),
    ],
    ids=["adam", "spsa", "l_bfgs_b", "adam_with_shots"],
)
def test_every_optimiser_lowers_the_exact_loss(objective, options, share):
    result, _ = run(objective, candidates=1, **options)
    assert objective.fit_loss(result.parameters) < share * result.start.exact_loss
    assert len(result.steps) <= options["steps"]


@pytest.mark.parametrize(("backend", "shots"), [("statevector", None), ("statevector", 50), ("exact", 50)])
def test_resumed_adam_run_equals_an_uninterrupted_one(objective, tmp_path, backend, shots):
    options = {"backend": backend, "shots": shots, "candidates": 2}
    whole, complete = run(objective, **options)
    calls = (2, 4, 7) if backend == "exact" else (6,)
    for number in calls:
        journal = tmp_path / f"{number}.json"
        with pytest.raises(BackendError, match="killed"):
            run(objective, journal=journal, calls=number, **options)
        again, rest = run(objective, journal=journal, resume=True, **options)
        np.testing.assert_array_equal(again.parameters, whole.parameters)
        assert again.steps == whole.steps
        assert again.cost == whole.cost
        assert again.resumed > 0
        assert rest.circuits < complete.circuits


@pytest.mark.parametrize("name", ["spsa", "l_bfgs_b"])
def test_other_optimisers_resume_too(objective, tmp_path, name):
    options = {"name": name, "shots": 200 if name == "spsa" else None, "candidates": 1}
    whole, _ = run(objective, **options)
    with pytest.raises(BackendError, match="killed"):
        run(objective, journal=tmp_path / "journal.json", calls=4, **options)
    again, _ = run(objective, journal=tmp_path / "journal.json", resume=True, **options)
    np.testing.assert_array_equal(again.parameters, whole.parameters)


@pytest.mark.parametrize("name", ["adam", "spsa"])
def test_a_finished_run_can_be_continued_with_more_steps(objective, tmp_path, name):
    options = {"name": name, "shots": 200, "learning_rate": 0.05}
    journal = tmp_path / "journal.json"
    run(objective, journal=journal, steps=3, **options)
    longer, _ = run(objective, journal=journal, resume=True, steps=8, **options)
    whole, _ = run(objective, steps=8, **options)
    np.testing.assert_array_equal(longer.parameters, whole.parameters)
    # Asked again, it is answered without a circuit.
    same, evaluator = run(objective, journal=journal, resume=True, steps=8, **options)
    assert evaluator.circuits == 0
    np.testing.assert_array_equal(same.parameters, whole.parameters)


def test_journal_belongs_to_one_run(frames, objective, tmp_path):
    journal = tmp_path / "journal.json"
    run(objective, journal=journal)
    with pytest.raises(ConfigError, match=r"optimizer = 'adam', now it is 'spsa'"):
        run(objective, journal=journal, resume=True, name="spsa")
    document = json.loads(journal.read_text())
    document["entries"][4]["angles"][0] += 0.1
    (tmp_path / "edited.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="answer 5 is about other angles"):
        run(objective, journal=tmp_path / "edited.json", resume=True)
    other = prepare(frames[:5], small_config()).objective
    with pytest.raises(ConfigError, match="other training data"):
        run(other, journal=journal, resume=True)
    with pytest.raises(ConfigError, match="no journal"):
        run(objective, journal=tmp_path / "none.json", resume=True)
    for key in ("random", "kind", "cost"):
        broken = [{k: v for k, v in entry.items() if k != key} for entry in document["entries"]]
        (tmp_path / "broken.json").write_text(json.dumps({**document, "entries": broken}))
        with pytest.raises(ConfigError, match="damaged"):
            run(objective, journal=tmp_path / "broken.json", resume=True)
    journal.write_text(json.dumps({**document, "version": 99}))
    with pytest.raises(ConfigError, match="this version"):
        run(objective, journal=journal, resume=True)
    journal.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        run(objective, journal=journal, resume=True)


def silent(*_):
    pass


def test_warm_starts(frames, tmp_path, rng):
    exact = small_config(estimator={"backend": "exact", "start": "exact"})
    prepared, start = prepare_start(frames, exact, rng=rng, progress=silent)
    result, _ = run(prepared.objective, start=start, steps=2)
    # Where the exact solution ended: its angles with weights solved for them, and far below any random start.
    count = prepared.objective.layout.n_parameters - len(start)
    solved = solve_weights(prepared.objective, np.append(start, np.zeros(count)))
    assert result.start.loss <= prepared.objective.loss(solved) * 1.05
    random = run(prepared.objective, steps=1)[0]
    assert result.start.loss < 0.1 * random.start.loss
    field = fitted(frames[:6], small_config(), rng=np.random.default_rng(1)).force_field
    field.save(tmp_path / "model.json")
    config = small_config(estimator={"backend": "exact", "start": str(tmp_path / "model.json")})
    again, angles = prepare_start(frames, config, rng=rng, progress=silent)
    np.testing.assert_array_equal(angles, np.concatenate([register.theta for register in field.registers.values()]))
    trained, _ = run(again.objective, start=angles, steps=20)
    assert trained.final.loss <= trained.start.loss + 1e-9
    # Steps too long to improve anything leave the start, which is no worse.
    spoilt, _ = run(prepared.objective, start=start, steps=8, learning_rate=1.0)
    assert spoilt.final.loss <= spoilt.start.loss + 1e-9
    kept = again.force_field(trained.parameters)
    assert [m.compression.to_dict() for m in kept.models] == [m.compression.to_dict() for m in field.models]


def test_a_start_that_cannot_be(frames, tmp_path, rng):
    def begin(config, data=frames):
        return prepare_start(data, config, rng=rng, progress=silent)

    with pytest.raises(ConfigError, match="scratch, exact, or the path"):
        begin(small_config(estimator={"start": str(tmp_path / "nothing.json")}))
    field = fitted(frames, small_config(), rng=rng).force_field
    field.save(tmp_path / "model.json")
    estimator = {"start": str(tmp_path / "model.json")}
    with pytest.raises(BudgetError, match=f"{field.n_trainable} trainable parameters"):
        begin(small_config(estimator=estimator, max_parameters=10))
    with pytest.raises(DataError, match="Ne Ar, the training frames hold Ar Kr"):
        begin(small_config(estimator=estimator), lennard_jones_frames(2, species=("Ar", "Kr")))


def test_unknown_settings_name_their_place():
    with pytest.raises(ConfigError, match=r"estimator.optimiser.*did you mean 'optimizer'"):
        small_config(estimator={"optimiser": "adam"})
    with pytest.raises(ConfigError, match=r"estimator.optimizer.*'adam', 'spsa' or 'l_bfgs_b'"):
        small_config(estimator={"optimizer": "sgd"})
    with pytest.raises(ConfigError, match=r"estimator.shots"):
        small_config(estimator={"shots": 0})
