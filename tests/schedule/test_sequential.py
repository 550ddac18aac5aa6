"""Sequential: stages along the needs, each until its gate; replay of earlier tasks; learning rates by stage."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from curves import Curve, Lesson, teach
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_graph import graphs
from variants import CHAIN, SEQUENTIAL, WORKLOADS, Variant, workload

from polytask.errors import ConfigError
from polytask.schedule import Schedule, Workload
from polytask.schedule.graph import in_order
from polytask.schedule.sequential import SequentialOptions

every_variant = pytest.mark.parametrize("variant", SEQUENTIAL, ids=str)
every_workload = pytest.mark.parametrize("run", WORKLOADS.values(), ids=WORKLOADS)
SIZES = st.lists(st.integers(1, 60), min_size=2, max_size=4)


def sequential(run: Workload, **options: Any) -> Schedule:
    return Variant("sequential", options).build(run)


def learn(schedule: Schedule, tau: float = 50.0, **more: Any) -> Lesson:
    return teach(schedule, {task: Curve(tau) for task in schedule.workload.sizes}, 10**6, **more)


def spans(lesson: Lesson) -> dict[str, tuple[int, int]]:
    """Return for each stage, in their order, its first step and the one after its last."""
    ends = [(change.values["task"], step) for step, change in lesson.changes if change.event == "stage_end"]
    firsts = [0, *(step for _, step in ends)]
    return {task: (first, end) for (task, end), first in zip(ends, firsts, strict=False)}


# order


@settings(max_examples=30)
@given(graphs())
def test_stages_are_in_topological_order_and_ties_in_the_order_of_the_file(needs: dict[str, list[str]]) -> None:
    run = workload(dict.fromkeys(needs, 3), 3, needs=needs, epochs=1)
    order = [next(iter(step.rows)) for step in learn(sequential(run)).steps]
    assert sorted(order) == sorted(needs)
    for number, chosen in enumerate(order):
        over = order[:number]
        ready = [task for task in needs if task not in over and all(need in over for need in needs[task])]
        assert chosen == ready[0]


@every_variant
@every_workload
def test_stages_end_with_their_gate_and_the_last_ends_the_run(variant: Variant, run: Workload) -> None:
    schedule = variant.build(run)
    lesson = learn(schedule)
    found = spans(lesson)
    assert list(found) == in_order({task: run.needs.get(task, ()) for task in run.sizes})
    told = set(run.gates).union(*run.needs.values())
    assert [lesson.events("gate", task) for task in found if task in told] == [
        [end] for task, (_, end) in found.items() if task in told
    ]
    following = [change.values["next"] for _, change in lesson.changes if change.event == "stage_end"]
    assert following == [*list(found)[1:], None]
    assert schedule.finished == "every stage is over"
    assert len(lesson.steps) == list(found.values())[-1][1]


@every_variant
@every_workload
def test_a_step_draws_rows_of_its_stage_and_of_earlier_ones_to_replay(variant: Variant, run: Workload) -> None:
    lesson = learn(variant.build(run))
    earlier: set[str] = set()
    for task, (first, end) in spans(lesson).items():
        drawn = lesson.drawn(first, end)
        assert drawn[task] > 0
        assert set(drawn) - {task} <= (earlier if variant.options.get("replay") else set())
        earlier.add(task)


@every_workload
def test_a_stage_without_a_gate_passes_its_rows_for_the_runs_epochs(run: Workload) -> None:
    """To the step: the rows that are missing before the last step of the stage are drawn in it."""
    plain = workload(run.sizes, run.batch_size, needs=run.needs, epochs=run.epochs)
    lesson = learn(sequential(plain))
    for task, (first, end) in spans(lesson).items():
        assert end - first == math.ceil(plain.epochs * plain.sizes[task] / plain.batch_size)


def test_a_stage_ends_at_the_evaluation_that_opens_its_gate() -> None:
    run = workload({"a": 40, "b": 40}, 5, epochs=9, gates={"a": {"score": {"f1": 0.5}}, "b": {"plateau": 2}})
    schedule = sequential(run)
    before = schedule.limit
    lesson = teach(schedule, {"a": Curve(100), "b": Curve(0.01)}, 10**6, every=4)
    reached = math.ceil(100 * math.log(2) / 5 / 4) * 4
    learned_and_twice_no_better = 3 * 4
    assert spans(lesson) == {"a": (0, reached), "b": (reached, reached + learned_and_twice_no_better)}
    assert len(lesson.steps) == reached + learned_and_twice_no_better < before


# replay


@settings(max_examples=40)
@given(SIZES, st.integers(1, 9), st.floats(0.05, 0.95))
def test_replayed_rows_have_their_share_and_are_divided_alike(sizes: list[int], batch: int, replay: float) -> None:
    run = workload({f"t{number}": size for number, size in enumerate(sizes)}, batch, epochs=2)
    lesson = learn(sequential(run, replay=replay))
    for number, (task, (first, end)) in enumerate(spans(lesson).items()):
        rows = (end - first) * batch
        drawn = lesson.drawn(first, end)
        assert drawn.total() == rows
        assert abs(drawn[task] - rows * (1 - replay if number else 1)) < 2
        for other in list(run.sizes)[:number]:
            assert abs(drawn[other] - rows * replay / number) < 2


def test_tasks_that_read_the_same_rows_replay_them_in_the_same_pass() -> None:
    run = workload({"a": 60, "b": 60, "c": 60}, 6, together=["abc"], epochs=10)
    lesson = learn(sequential(run, replay=0.2))
    for number, (task, (first, end)) in enumerate(spans(lesson).items()):
        drawn = lesson.drawn(first, end)
        assert drawn[task] == (end - first) * 6 == 600
        for other in list("abc")[:number]:
            assert drawn[other] / drawn[task] == pytest.approx(0.2 / number / 0.8, abs=2 / 600)


def test_replay_keeps_what_would_be_forgotten() -> None:
    run = workload({"a": 200, "b": 200}, 8, epochs=4)
    left = {}
    for replay in (0.0, 0.2):
        curves = {"a": Curve(100, forgets=0.05), "b": Curve(100)}
        teach(sequential(run, replay=replay), curves, 10**6)
        left[replay] = curves["a"].score
    assert left[0.0] < 0.5 < 0.95 < left[0.2]


# steps and learning rates


@every_workload
def test_without_replay_the_limit_and_the_stages_are_exact(run: Workload) -> None:
    plain = workload(run.sizes, run.batch_size, needs=run.needs, gates={task: {"epochs": 0.7} for task in run.sizes})
    schedule = sequential(plain)
    limit = schedule.limit
    lesson = learn(schedule)
    assert len(lesson.steps) == limit
    for stage, group in itertools.groupby(lesson.stages):
        assert len(list(group)) == stage.steps


@settings(max_examples=40)
@given(SIZES, st.integers(1, 9), st.floats(0.05, 0.95), st.booleans(), st.floats(0.1, 3))
def test_the_limit_is_never_less_than_the_steps_and_little_more(
    sizes: list[int], batch: int, replay: float, together: bool, epochs: float
) -> None:
    names = [f"t{number}" for number in range(len(sizes))]
    sizes = [min(size, 12) for size in sizes]
    run = workload(dict(zip(names, sizes, strict=True)), batch, together=[names[1:]] if together else [], epochs=epochs)
    schedule = sequential(run, replay=replay)
    limit = schedule.limit
    lesson = learn(schedule)
    assert schedule.finished
    assert len(lesson.steps) <= limit <= len(lesson.steps) + len(sizes) * (2 + 6 / batch / (1 - replay))
    for number, stage in enumerate(lesson.stages):
        assert number < stage.first + stage.steps


@pytest.mark.parametrize("replay", [0.0, 0.25])
def test_each_stage_has_a_learning_rate_and_frozen_layers_of_its_own(replay: float) -> None:
    run = workload({"a": 20, "b": 40, "c": 10}, 5, needs=CHAIN, gates={"a": {"plateau": 1, "limit": 2}}, epochs=4)
    lesson = learn(sequential(run, replay=replay, freeze=3), tau=1.0, every=2)
    stages = list(dict.fromkeys(lesson.stages))
    assert [stage.name for stage in stages] == ["a", "b", "c"]
    assert (stages[0].first, stages[0].steps) == (0, 8)
    assert [stage.first for stage in stages] == [first for first, _ in spans(lesson).values()]
    assert [stage.frozen for stage in stages] == [0, 3, 3]


def test_one_learning_rate_goes_through_all_stages_without_a_restart() -> None:
    run = workload({"a": 20, "b": 40}, 5, gates={"a": {"plateau": 1, "limit": 2}}, epochs=4)
    schedule = sequential(run, freeze=1, restart=False)
    before = schedule.limit
    lesson = learn(schedule, tau=0.1, every=2)
    assert [stage.first for stage in lesson.stages] == [0] * len(lesson.steps)
    assert lesson.stages[0].steps == before
    assert lesson.stages[-1].steps == len(lesson.steps) < before
    assert [stage.frozen for stage in lesson.stages] == [int(stage.name == "b") for stage in lesson.stages]


@every_variant
@every_workload
def test_an_epoch_is_the_running_tasks(variant: Variant, run: Workload) -> None:
    schedule = variant.build(run)
    lesson = learn(schedule)
    for task, (first, end) in spans(lesson).items():
        epoch = lesson.epochs[first]
        assert set(lesson.epochs[first:end]) == {epoch}
        if first + epoch <= end:
            passed = lesson.drawn(first, first + epoch)[task]
            assert run.sizes[task] - 2 < passed < run.sizes[task] + run.batch_size + 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"replay": 1.0}, "less than 1"),
        ({"replay": -0.1}, "greater than or equal to 0"),
        ({"freeze": -1}, "greater than or equal to 0"),
        ({"proportions": "uniform"}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        SequentialOptions.model_validate({"strategy": "sequential", **options})
    assert [error["loc"] for error in caught.value.errors()] == [(key,) for key in options]


def test_more_frozen_layers_than_there_are_are_refused() -> None:
    options = SequentialOptions(strategy="sequential", freeze=7)
    options.require_layers(7)
    with pytest.raises(ConfigError, match=r"schedule.freeze: found 7 layers; the encoder has 6, accepted: 0 to 6"):
        options.require_layers(6)
