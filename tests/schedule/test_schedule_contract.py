"""What every schedule promises, over all rows of SCHEDULES and all of their options."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any, get_args

import pytest
from variants import DYNAMIC, FREE, PARALLEL, SEQUENTIAL, VARIANTS, WORKLOADS, Variant, play, promised, steps, workload

from polytask import testing
from polytask.schedule import SCHEDULES, Feedback, Parallel, ParallelOptions, Step, Workload, passed
from polytask.schedule.policies import LEAST, POLICIES
from polytask.schedule.proportions import PROPORTIONS

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)
every_workload = pytest.mark.parametrize("run", WORKLOADS.values(), ids=WORKLOADS)
free_workload = pytest.mark.parametrize("run", FREE.values(), ids=FREE)


def demands(run: Workload, shares: dict[str, float]) -> dict[tuple[int, int], float]:
    """Return what the most demanding task asks of each stratum of each source."""
    return {
        (source, number): max(shares[task] / run.sizes[task] for task in stratum.tasks) * stratum.rows
        for source, strata in enumerate(run.sources)
        for number, stratum in enumerate(strata)
    }


def encoder_rows(step: Step) -> dict[tuple[int, int], int]:
    """Return the rows that a step passes of each stratum of each source."""
    return {(portion.source, portion.stratum): max(portion.rows.values()) for portion in step.portions}


def test_every_schedule_proportion_and_policy_is_covered() -> None:
    assert len(SCHEDULES) == 3
    assert {variant.strategy for variant in VARIANTS} == set(SCHEDULES)
    for name, kind in SCHEDULES.items():
        assert get_args(kind.model_fields["strategy"].annotation) == (name,)
    assert {variant.options["proportions"] for variant in PARALLEL} == {*PROPORTIONS, "numbers", "auto"}
    assert {variant.options["policy"] for variant in DYNAMIC} == set(POLICIES)
    assert {bool(variant.options.get("replay")) for variant in SEQUENTIAL} == {True, False}


@pytest.mark.sampled(3)
@every_variant
@every_workload
def test_same_state_gives_the_same_stream(variant: Variant, run: Workload) -> None:
    testing.require_same_stream(lambda: variant.build(run))


@pytest.mark.sampled(3)
@every_variant
@every_workload
def test_resume_in_mid_stream_equals_uninterrupted(variant: Variant, run: Workload) -> None:
    """Stopped anywhere, and just before and after the first things that change: gates, stages, pauses."""
    testing.require_resumable_schedule(lambda: variant.build(run))


@every_variant
def test_a_saved_state_does_not_change_with_the_schedule(variant: Variant) -> None:
    schedule = variant.build(WORKLOADS["gated"])
    list(play(schedule, 11))
    state = schedule.state_dict()
    before = json.dumps(state)
    list(play(schedule, 25))
    assert json.dumps(state) == before
    schedule.load_state_dict(state)
    list(play(schedule, 25))
    assert json.dumps(state) == before


@pytest.mark.sampled(3)
@every_variant
@every_workload
def test_steps_are_numbered_and_pass_a_whole_batch_through_the_encoder(variant: Variant, run: Workload) -> None:
    schedule = variant.build(run)
    for number, step in enumerate(steps(schedule, 50)):
        assert step.number == number
        assert set(step.rows) <= set(run.sizes)
        assert all(count >= 1 for count in step.rows.values())
        assert sum(encoder_rows(step).values()) == run.batch_size
        for portion in step.portions:
            assert set(portion.rows) <= set(run.sources[portion.source][portion.stratum].tasks)
        assert len(step.rows) <= schedule.together


@pytest.mark.sampled(3)
@every_variant
@every_workload
def test_every_step_lies_in_its_stage_and_before_the_limit(variant: Variant, run: Workload) -> None:
    schedule = variant.build(run)
    stages, limits = [schedule.stage], [schedule.limit]
    for step in steps(schedule, 10**6):
        assert stages[-1].first <= step.number < stages[-1].first + stages[-1].steps
        stages.append(schedule.stage)
        limits.append(schedule.limit)
    assert schedule.finished or schedule.step == schedule.limit
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] >= schedule.step


@every_variant
@pytest.mark.parametrize(("epochs", "expected"), [(1.1, 11), (2.2, 22), (0.3, 3), (0.25, 3), (1e-12, 1)])
def test_a_run_has_as_many_steps_as_its_epochs_whatever_rounding_does(
    variant: Variant, epochs: float, expected: int
) -> None:
    schedule = variant.build(workload({"a": 10}, 1, epochs=epochs))
    assert schedule.limit == expected
    assert len(list(steps(schedule, 99))) == expected


@pytest.mark.parametrize("variant", [*PARALLEL, *DYNAMIC], ids=str)
@every_workload
def test_no_task_starves_once_it_may_train(variant: Variant, run: Workload) -> None:
    schedule = variant.build(run)
    ends = promised(variant, run), promised(variant, run, 1.0)
    most = max(passed(run.sources, run.sizes, shares) / min(shares.values()) for shares in ends)
    # What feedback leaves a task at least; a paused one keeps its share of every so many steps.
    least = LEAST if variant in DYNAMIC else 1.0
    longest = (2 if variant in PARALLEL else 4) * (1 + most / least / run.batch_size)
    last: dict[str, int] = {}
    for step in steps(schedule, min(int(2 * longest), 600)):
        for task in schedule.gates.ready():
            last[task] = step.number if task in step.rows else last.get(task, step.number)
            assert step.number - last[task] <= longest, task


@pytest.mark.parametrize("variant", [*PARALLEL, *DYNAMIC], ids=str)
@every_workload
def test_an_epoch_passes_all_rows_and_is_at_least_one_step(variant: Variant, run: Workload) -> None:
    epoch = variant.build(run).steps_per_epoch
    assert epoch * run.batch_size >= run.rows > (epoch - 1) * run.batch_size


@pytest.mark.parametrize("variant", PARALLEL, ids=str)
@free_workload
def test_parallel_frequencies_match_the_proportions_within_one_row(variant: Variant, run: Workload) -> None:
    """At any time each source is within one row of its share, each stratum of its part, and each task of its own."""
    schedule = variant.build(run)
    limit = schedule.limit
    exact, drawn = Counter[Any](), Counter[Any]()
    for step in steps(schedule, 120):
        shares = promised(variant, run, step.number / max(1, limit - 1))
        most, rows = demands(run, shares), encoder_rows(step)
        for source, strata in enumerate(run.sources):
            numbers = range(len(strata))
            given = sum(rows.get((source, number), 0) for number in numbers)
            share = sum(most[source, number] for number in numbers)
            drawn[source] += given
            exact[source] += run.batch_size * share / sum(most.values())  # type: ignore[assignment]
            assert abs(drawn[source] - exact[source]) < 1 + 1e-6
            for number in numbers:
                exact[source, number] += given * most[source, number] / share  # type: ignore[assignment]
        drawn.update(rows)
        for portion in step.portions:
            place = portion.source, portion.stratum
            stratum = run.sources[portion.source][portion.stratum]
            drawn.update({(*place, task): count for task, count in portion.rows.items()})
            for task in stratum.tasks:
                part = shares[task] / run.sizes[task] * stratum.rows / most[place]
                exact[*place, task] += rows[place] * part  # type: ignore[assignment]
        assert all(abs(drawn[place] - found) < 1 + 1e-6 for place, found in exact.items())


def test_annealed_has_its_shares_at_a_given_point_of_the_run() -> None:
    schedule = PARALLEL[3].build(workload({"a": 1000, "b": 10}, 100, epochs=30))
    played = list(steps(schedule, schedule.limit))
    for first in (0, len(played) // 2, len(played) - 30):
        drawn = Counter[str]()
        for step in played[first : first + 30]:
            drawn.update(step.rows)
        exponent = 1.0 - 0.8 * (first + 14.5) / (len(played) - 1)
        assert drawn["b"] / drawn.total() == pytest.approx(10**exponent / (10**exponent + 1000**exponent), abs=0.002)


@pytest.mark.parametrize("variant", [*PARALLEL, *DYNAMIC], ids=str)
def test_equal_tasks_on_the_same_rows_draw_equally_when_they_learn_equally(variant: Variant) -> None:
    run = workload({"a": 40, "b": 40, "c": 90}, 6, together=["ab"])
    options: dict[str, Any] = dict(variant.options)
    if options["proportions"] == "numbers":
        options["proportions"] = {"a": 2.5, "b": 2.5, "c": 1}
    schedule = Variant(variant.strategy, options).build(run)
    for number in range(80):
        step = schedule.next()
        assert step.rows.get("a") == step.rows.get("b")
        falling = {"a": 1 / (1 + number), "b": 1 / (1 + number), "c": 1.0}
        schedule.observe(Feedback(number, {task: falling[task] for task in step.rows}))
        if number % 9 == 8:
            scores = {"a": 0.5, "b": 0.5, "c": number / 100}
            schedule.observe(Feedback(number, {}, {task: {"f1": found} for task, found in scores.items()}, scores))


def test_proportional_passes_each_task_once_through_its_rows_in_an_epoch() -> None:
    run = workload({"a": 640, "b": 64, "c": 64}, 32, together=["bc"])
    schedule = Parallel(ParallelOptions(strategy="parallel", proportions="proportional"), run)
    drawn: Counter[str] = Counter()
    for step in itertools.islice(steps(schedule, 10**6), schedule.steps_per_epoch):
        drawn.update(step.rows)
    assert drawn == run.sizes


@every_variant
def test_tasks_that_no_step_or_evaluation_tells_of_are_no_mistake(variant: Variant) -> None:
    schedule = variant.build(WORKLOADS["diamond"])
    schedule.next()
    schedule.observe(Feedback(0, {}))
    schedule.observe(Feedback(1, {}, {}, {}))
    schedule.observe(Feedback(1, {}, {"top": {"f1": None}}, {"top": -0.7}))
    assert schedule.next().rows
    json.dumps(schedule.state_dict(), allow_nan=False)
