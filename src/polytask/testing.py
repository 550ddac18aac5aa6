"""Contract tests for your own methods, the same as for polytask's: derive a test class and set what to test.

>>> from polytask.balance import SumOptions
>>> class TestSum(BalancerContract):
...     options = SumOptions()

pytest runs each method of such a class. The name of each test says what it requires.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from polytask.balance.balancer import BalanceOptions, Balancer, Floats
from polytask.schedule import Change, Feedback, Schedule, ScheduleOptions, Step, Workload
from polytask.tasks import METRICS, LabelStats, Metric, Task
from polytask.tasks.gate import GateOptions
from polytask.terms import Label, Stratum

FOUR = ("a", "b", "c", "d")
EVALUATE_EVERY = 7


@dataclass(frozen=True)
class StepGradients:
    """A step: the tasks' losses, their gradients (tasks x parameters), and their numbers of rows."""

    tasks: tuple[str, ...]
    values: Floats
    jacobian: Floats
    counts: Floats

    @property
    def losses(self) -> dict[str, float]:
        """Losses by task."""
        return dict(zip(self.tasks, self.values.tolist(), strict=True))

    @property
    def rows(self) -> dict[str, float]:
        """Rows by task."""
        return dict(zip(self.tasks, self.counts.tolist(), strict=True))

    @property
    def gram(self) -> Floats:
        """Inner products of the gradients."""
        return self.jacobian @ self.jacobian.T

    @property
    def norms(self) -> dict[str, float]:
        """Lengths of the gradients by task."""
        return dict(zip(self.tasks, np.linalg.norm(self.jacobian, axis=1).tolist(), strict=True))

    def only(self, tasks: Sequence[str]) -> StepGradients:
        """Return the step for a subset of the tasks, or for another order."""
        places = [self.tasks.index(task) for task in tasks]
        return StepGradients(tuple(tasks), self.values[places], self.jacobian[places], self.counts[places])


def random_step(number: int, tasks: Sequence[str] = FOUR, size: int = 12, common: float = 0.0) -> StepGradients:
    """Return a random step: losses between 0.2 and 2, gradients of different lengths, many of them conflicting.

    Args:
        number: number of the step, which seeds it.
        tasks: names of the tasks.
        size: number of parameters.
        common: length of the component that all gradients have in common.
    """
    drawn = np.random.default_rng(number)
    jacobian = drawn.normal(size=(len(tasks), size)) + common * drawn.normal(size=size)
    lengths = drawn.uniform(0.3, 3.0, size=(len(tasks), 1))
    values = drawn.uniform(0.2, 2.0, size=len(tasks))
    return StepGradients(tuple(tasks), values, lengths * jacobian, drawn.integers(1, 30, size=len(tasks)).astype(float))


def weigh(balancer: Balancer, step: StepGradients) -> dict[str, float]:
    """Return the weights for a step, and pass its losses to the balancer afterwards."""
    weights = balancer.weigh(step.losses, step.gram if balancer.reads_gradients else None, step.rows)
    balancer.after({task: 0.9 * loss + 0.01 for task, loss in step.losses.items()})
    return weights


def update(balancer: Balancer, step: StepGradients) -> Floats:
    """Return the combined gradient of a step, from the weights or from the aggregator itself."""
    if balancer.shape == "gradients":
        return balancer.aggregate(torch.from_numpy(step.jacobian)).numpy()
    weights = weigh(balancer, step)
    return np.array([weights[task] for task in step.tasks]) @ step.jacobian


def require_resumable_balancer(build: Callable[[], Balancer]) -> None:
    """Assert that a balancer resumed from its JSON state at any step continues with the same updates."""
    balancer, saved, expected = build(), list[str](), list[Floats]()
    steps = [random_step(number) for number in range(9)]
    steps[4] = steps[4].only(("a", "c", "d"))  # steps need not have all tasks
    for step in steps:
        saved.append(json.dumps(balancer.state_dict(), allow_nan=False))
        expected.append(update(balancer, step))
    for start in (0, 1, 4, 5, 6):
        resumed = build()
        resumed.load_state_dict(json.loads(saved[start]))
        for number in range(start, len(steps)):
            assert json.dumps(resumed.state_dict()) == saved[number], "the state is incomplete"
            np.testing.assert_array_equal(update(resumed, steps[number]), expected[number])


def require_state_apart(build: Callable[[], Balancer]) -> None:
    """Assert that a saved state does not change when the balancer that it came from is used further."""
    balancer = build()
    update(balancer, random_step(1))
    state = balancer.state_dict()
    before = json.dumps(state)
    for number in range(5):
        update(balancer, random_step(number))
    assert json.dumps(state) == before


def require_repeatable_balancer(build: Callable[[], Balancer]) -> None:
    """Assert that random numbers depend only on the seed and the step, and do not use torch's global generator."""
    runs: list[list[Any]] = []
    for other in (0, 5):
        torch.default_generator.manual_seed(other)
        before = torch.get_rng_state()
        balancer = build()
        runs.append([update(balancer, random_step(number)).tolist() for number in range(4)])
        assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"
    assert runs[0] == runs[1]


class BalancerContract:
    """Contract of every balancer.

    Attributes:
        options: options of the balancer to test, which runs on four tasks named a to d.
    """

    options: ClassVar[BalanceOptions]

    def build(self) -> Balancer:
        """Build the balancer."""
        return Balancer(self.options, dict.fromkeys(FOUR, 1.0), 1)

    def test_a_resumed_balancer_goes_on_with_the_same_updates(self) -> None:
        require_resumable_balancer(self.build)

    def test_a_saved_state_does_not_change_with_the_balancer(self) -> None:
        require_state_apart(self.build)

    def test_random_numbers_come_from_the_seed_and_the_step_alone(self) -> None:
        require_repeatable_balancer(self.build)

    def test_options_that_are_written_read_back_the_same(self) -> None:
        assert type(self.options).model_validate(json.loads(self.options.model_dump_json())) == self.options

    def test_weights_are_finite(self) -> None:
        balancer = self.build()
        assert all(np.isfinite(update(balancer, random_step(number))).all() for number in range(6))


def loss(task: str, number: int) -> float:
    """Return a loss that rises and falls, at different times for each task."""
    return 1.2 + math.sin(number / 11 + sum(map(ord, task)))


def score(task: str, number: int) -> float:
    """Return a normalised score that rises and falls, and is sometimes below the baseline."""
    return 0.3 + 0.6 * math.sin(number / 31 + sum(map(ord, task)))


def errors(task: str, number: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a step's training errors by class and their counts; sometimes a class is missing."""
    counts = np.array([2.0, float(number % 3)])
    return counts * (0.5 + 0.5 * math.sin(number / 7 + sum(map(ord, task)))), counts


def evaluation(tasks: Sequence[str], number: int) -> Feedback:
    """Return the feedback of an evaluation: metrics, which are sometimes undefined, and normalised scores."""
    normalised = {task: score(task, number) for task in tasks}
    dev = {task: {"f1": None if (number + len(tasks)) % 3 == 0 else value} for task, value in normalised.items()}
    return Feedback(number, {}, dev, {task: 0.0 if dev[task]["f1"] is None else normalised[task] for task in tasks})


def play(schedule: Schedule, count: int) -> Iterator[tuple[Step, list[Change]]]:
    """Yield up to `count` steps as in training, each with the changes caused by the feedback after it."""
    for _ in range(count):
        if schedule.finished is not None or schedule.step >= schedule.limit:
            return
        step = schedule.next()
        losses = {task: loss(task, step.number) for task in step.rows}
        wrong = {task: errors(task, step.number) for task in step.rows} if schedule.reads_errors else {}
        changes = schedule.observe(Feedback(step.number, losses, errors=wrong))
        if schedule.step % EVALUATE_EVERY == 0:
            changes += schedule.observe(evaluation(list(schedule.workload.sizes), schedule.step))
        yield step, changes


def require_same_stream(build: Callable[[], Schedule]) -> None:
    """Assert that a schedule depends only on its options, the run and the feedback."""
    assert list(play(build(), 40)) == list(play(build(), 40))


def require_resumable_schedule(build: Callable[[], Schedule], count: int = 60) -> None:
    """Assert that a schedule resumed from its JSON state at any step continues with the same steps and changes."""
    schedule, expected = build(), list[tuple[Step, list[Change]]]()
    saved = [json.dumps(schedule.state_dict(), allow_nan=False)]
    for outcome in play(schedule, count):
        expected.append(outcome)
        saved.append(json.dumps(schedule.state_dict(), allow_nan=False))
    changed = [number for number, (_, changes) in enumerate(expected) if changes][:3]
    stops = {0, 1, 13, *changed, *(number + 1 for number in changed)}
    for stop in sorted(stop for stop in stops if stop <= len(expected)):
        resumed = build()
        resumed.load_state_dict(json.loads(saved[stop]))
        assert list(play(resumed, len(expected) - stop)) == expected[stop:]
        assert json.dumps(resumed.state_dict()) == saved[-1], "the state is incomplete"
        assert (resumed.limit, resumed.stage, resumed.finished) == (schedule.limit, schedule.stage, schedule.finished)


def require_whole_steps(build: Callable[[], Schedule], run: Workload) -> None:
    """Assert that steps are numbered, and each passes `batch_size` rows of the run's tasks through the encoder."""
    schedule = build()
    for number, (step, _) in enumerate(play(schedule, 50)):
        assert step.number == number
        assert set(step.rows) <= set(run.sizes)
        assert all(count >= 1 for count in step.rows.values())
        assert sum(max(portion.rows.values()) for portion in step.portions) == run.batch_size
        assert len(step.rows) <= schedule.together


def runs_to_schedule() -> list[Workload]:
    """Return small runs: tasks with separate rows, tasks on the same rows, and a task that waits for another."""
    apart = Workload(
        {"a": 100, "b": 37}, ((Stratum(("a",), 100),), (Stratum(("b",), 37),)), 8, 3.0, {"a": "f1", "b": "f1"}
    )
    shared = (Stratum(("a", "b"), 30), Stratum(("a",), 20))
    together = Workload({"a": 50, "b": 30}, (shared,), 4, 3.0, {"a": "f1", "b": "f1"})
    gates = {"a": GateOptions(epochs=1)}
    waiting = Workload(apart.sizes, apart.sources, 8, 3.0, apart.metrics, {"b": ["a"]}, gates)
    return [apart, together, waiting]


class ScheduleContract:
    """Contract of every schedule.

    Attributes:
        options: options of the schedule to test.
    """

    options: ClassVar[ScheduleOptions]

    def each(self) -> Iterator[tuple[Callable[[], Schedule], Workload]]:
        """Yield a function that builds the schedule, and the run it is for."""
        for run in runs_to_schedule():
            yield (lambda run=run: self.options.build(run)), run

    def test_same_state_gives_the_same_stream(self) -> None:
        for build, _ in self.each():
            require_same_stream(build)

    def test_resume_in_mid_stream_equals_uninterrupted(self) -> None:
        for build, _ in self.each():
            require_resumable_schedule(build)

    def test_steps_are_numbered_and_pass_a_whole_batch_through_the_encoder(self) -> None:
        for build, run in self.each():
            require_whole_steps(build, run)

    def test_it_ends(self) -> None:
        for build, _ in self.each():
            schedule = build()
            assert len(list(play(schedule, schedule.limit + 1))) <= schedule.limit

    def test_options_that_are_written_read_back_the_same(self) -> None:
        assert type(self.options).model_validate(json.loads(self.options.model_dump_json())) == self.options


class MetricContract:
    """Contract of every metric.

    Attributes:
        metric: a row of METRICS.
        truth, predictions: labels and predictions of some rows, not all correct.
    """

    metric: ClassVar[Metric]
    truth: ClassVar[Sequence[Any]]
    predictions: ClassVar[Sequence[Any]]

    def test_no_rows_have_no_score_and_raise_nothing(self) -> None:
        assert self.metric([], []) in (None, 0.0)

    def test_a_perfect_answer_has_the_best_score(self) -> None:
        best = 0.0 if self.metric.smaller_is_better else 1.0
        assert math.isclose(self.metric(self.truth, self.truth) or 0.0, best, abs_tol=1e-9)

    def test_it_is_a_plain_number_on_the_right_side_of_perfect(self) -> None:
        value = self.metric(self.truth, self.predictions)
        assert value is None or type(value) is float
        assert value is None or (value >= 0.0 if self.metric.smaller_is_better else value <= 1.0)

    def test_weights_of_rows_are_repeated_rows(self) -> None:
        drawn = np.random.default_rng(0).integers(0, 3, size=(8, len(self.truth)))
        plain = Metric(self.metric.function).over_weights(self.truth, self.predictions)(drawn)
        weighted = self.metric.over_weights(self.truth, self.predictions)(drawn)
        np.testing.assert_allclose(weighted, plain, atol=1e-9)


class TaskContract:
    """Contract of every row-level task type.

    Attributes:
        kind: class of the task type.
        cells: labels of training rows, as in a file.
        values: options in addition to the type.
    """

    kind: ClassVar[type[Task]]
    cells: ClassVar[Sequence[Any]]
    values: ClassVar[Mapping[str, Any]] = {}

    def read(self) -> tuple[Task, list[Label], LabelStats]:
        """Return the task fitted to the rows, the labels of the rows, and their statistics."""
        kind, stats, labels = self.kind, LabelStats(), list[Label]()
        options = kind.Options.model_validate({"type": kind.type_name, **self.values})
        for cell in self.cells:
            label = kind.read(options, {kind.columns(options)[-1]: cell}, stats)
            stats.present += label is not None
            stats.missing += label is None
            labels += [] if label is None else [label]
        return kind.fit("it", options, stats), labels, stats

    def outputs(self, task: Task, rows: int) -> torch.Tensor:
        """Return random head outputs for some rows."""
        return torch.randn(rows, task.head.size, generator=torch.Generator().manual_seed(5))

    def test_samples_go_from_reading_to_scores(self) -> None:
        task, labels, _ = self.read()
        targets = torch.tensor([task.encode(label) for label in labels])
        outputs = self.outputs(task, len(labels)).requires_grad_()
        loss = task.loss(outputs, targets)
        loss.backward()
        assert loss.isfinite()
        assert outputs.grad is not None
        assert outputs.grad.isfinite().all()
        assert outputs.grad.any(), "the loss does not depend on the outputs"
        assert task.loss_denominator(targets) > 0
        errors, counts = task.training_errors(outputs.detach(), targets)
        assert len(errors) == len(counts) == task.head.size
        assert (errors >= 0).all()
        for predictions in (task.decode(outputs.detach().numpy()), task.baseline(labels)):
            probabilities = task.positive_probabilities(outputs.detach().numpy())
            positive = None if probabilities is None else probabilities.tolist()
            scores = [
                METRICS[task.level][name](*task.measured_by(name, labels, predictions, positive))
                for name in task.metrics
            ]
            assert all(value is None or isinstance(value, float) for value in scores)

    def test_a_loss_over_parts_adds_up(self) -> None:
        task, labels, _ = self.read()
        targets, outputs = torch.tensor([task.encode(label) for label in labels]), self.outputs(task, len(labels))
        parts = task.loss(outputs[:1], targets[:1]) + task.loss(outputs[1:], targets[1:])
        torch.testing.assert_close(task.loss(outputs, targets), parts, rtol=1e-4, atol=1e-4)
        assert math.isclose(
            task.loss_denominator(targets),
            task.loss_denominator(targets[:1]) + task.loss_denominator(targets[1:]),
            rel_tol=1e-6,
        )

    def test_json_form_decides_alike(self) -> None:
        task, labels, _ = self.read()
        copy = self.kind.from_json("it", json.loads(json.dumps(task.to_json())))
        outputs = self.outputs(task, len(labels)).numpy()
        assert copy.decode(outputs) == task.decode(outputs)
        assert (copy.labels, copy.metrics, copy.head) == (task.labels, task.metrics, task.head)
        assert copy.to_json() == task.to_json()

    def test_missing_cells_carry_no_label(self) -> None:
        options, stats = self.kind.Options.model_validate({"type": self.kind.type_name, **self.values}), LabelStats()
        for row in ({}, {self.kind.columns(options)[-1]: None}):
            assert self.kind.read(options, row, stats) is None
        assert stats == LabelStats()

    def test_label_stats_survive_json(self) -> None:
        _, _, stats = self.read()
        assert LabelStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats

    def test_answers_are_json(self) -> None:
        task, labels, _ = self.read()
        prediction = task.format_prediction(self.outputs(task, len(labels))[0].numpy(), "a text", [], [])
        assert json.loads(json.dumps(prediction, allow_nan=False)) == prediction
