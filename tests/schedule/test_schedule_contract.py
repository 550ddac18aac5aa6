"""What every schedule promises, over all rows of SCHEDULES and all of their ways to divide rows."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from polytask.schedule import SCHEDULES, Feedback, Parallel, ParallelOptions, Schedule, Step, Workload
from polytask.schedule.proportions import PROPORTIONS

# Every schedule with every set of options that it is tested with.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("parallel", {"proportions": "uniform"}),
    ("parallel", {"proportions": "proportional"}),
    ("parallel", {"proportions": "temperature", "temperature": 3.0}),
]
WORKLOADS = {
    "one task": Workload({"a": 7}, ((("a",), 7),), 4),
    "one row": Workload({"a": 5000, "b": 1}, ((("a",), 5000), (("b",), 1)), 8),
    "one row a step": Workload({"a": 30, "b": 20, "c": 1}, ((("a",), 30), (("b",), 20), (("c",), 1)), 1),
    "twins": Workload({"a": 40, "b": 40, "c": 90}, ((("a", "b"), 40), (("c",), 90)), 6),
    "mixed": Workload({"a": 100, "b": 37, "c": 60, "d": 9}, ((("a", "b", "c"), 120), (("d",), 9)), 5),
    "many": Workload({f"t{n}": 1 + n**3 for n in range(9)}, tuple(((f"t{n}",), 1 + n**3) for n in range(9)), 16),
}


@pytest.fixture(params=WORKLOADS)
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@pytest.fixture(params=VARIANTS, ids=lambda variant: "-".join(map(str, (variant[0], *variant[1].values()))))
def variant(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param


def build(variant: tuple[str, dict[str, Any]], workload: Workload) -> Schedule:
    kind = SCHEDULES[variant[0]]
    return kind(kind.Options.model_validate(variant[1]), workload)


def steps(schedule: Schedule, count: int) -> Iterator[Step]:
    """Draw steps as training does: each is followed by what was measured."""
    for _ in range(count):
        step = schedule.next()
        schedule.observe(Feedback(step.number, {task: 1.0 / (1 + step.number) for task in step.rows}))
        yield step


def shares_of(variant: tuple[str, dict[str, Any]], workload: Workload) -> dict[str, float]:
    options = ParallelOptions.model_validate(variant[1])
    return PROPORTIONS[options.proportions](workload.sizes, options.temperature)


def test_every_schedule_and_option_is_covered() -> None:
    assert len(SCHEDULES) == 1
    assert {name for name, _ in VARIANTS} == set(SCHEDULES)
    choices = get_args(ParallelOptions.model_fields["proportions"].annotation)
    assert {options["proportions"] for _, options in VARIANTS} == set(choices) == set(PROPORTIONS)
    assert all(kind.Options.model_fields["strategy"].default == name for name, kind in SCHEDULES.items())


def test_same_state_gives_the_same_stream(variant: tuple[str, dict[str, Any]], workload: Workload) -> None:
    assert list(steps(build(variant, workload), 60)) == list(steps(build(variant, workload), 60))


@pytest.mark.parametrize("stop", [0, 1, 13])
def test_resume_in_mid_stream_equals_uninterrupted(
    variant: tuple[str, dict[str, Any]], workload: Workload, stop: int
) -> None:
    whole = build(variant, workload)
    expected = list(steps(whole, stop + 40))
    first, second = build(variant, workload), build(variant, workload)
    before = list(steps(first, stop))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    list(steps(first, 5))  # what goes on elsewhere leaves the state that was saved alone
    assert before + list(steps(second, 40)) == expected
    assert second.state_dict() == whole.state_dict()


def test_steps_are_numbered_and_draw_rows_of_known_tasks(
    variant: tuple[str, dict[str, Any]], workload: Workload
) -> None:
    for number, step in enumerate(steps(build(variant, workload), 30)):
        assert step.number == number
        assert set(step.rows) <= set(workload.sizes)
        assert all(count >= 1 for count in step.rows.values())


def test_no_task_starves(variant: tuple[str, dict[str, Any]], workload: Workload) -> None:
    shares = shares_of(variant, workload)
    most = [max(shares[task] for task in tasks) for tasks, _ in workload.sources]
    longest = 2 + 2 * sum(most) / (min(shares.values()) * workload.batch_rows)
    last = dict.fromkeys(workload.sizes, 0)
    for step in steps(build(variant, workload), min(int(3 * longest), 20000)):
        for task in last:
            last[task] = step.number if task in step.rows else last[task]
            assert step.number - last[task] <= longest, task


def test_an_epoch_is_at_least_one_step(variant: tuple[str, dict[str, Any]], workload: Workload) -> None:
    rows = sum(count for _, count in workload.sources)
    epoch = build(variant, workload).steps_per_epoch
    assert epoch * workload.batch_rows >= rows > (epoch - 1) * workload.batch_rows


def test_parallel_frequencies_match_the_proportions_within_one_row(
    variant: tuple[str, dict[str, Any]], workload: Workload
) -> None:
    """Each source is within one row of its share at any time, and each task within one of its part of the source."""
    shares = shares_of(variant, workload)
    most = [max(shares[task] for task in tasks) for tasks, _ in workload.sources]
    drawn: Counter[str] = Counter()
    source_rows = [0] * len(most)
    for step in steps(build(variant, workload), 150):
        drawn.update(step.rows)
        exact = (step.number + 1) * workload.batch_rows
        for index, (tasks, _) in enumerate(workload.sources):
            source_rows[index] += max(step.rows.get(task, 0) for task in tasks)
            assert abs(source_rows[index] - exact * most[index] / sum(most)) < 1
            for task in tasks:
                assert abs(drawn[task] - source_rows[index] * shares[task] / most[index]) < 1 + 1e-6


def test_parallel_steps_pass_batch_rows_through_the_encoder(
    variant: tuple[str, dict[str, Any]], workload: Workload
) -> None:
    for step in steps(build(variant, workload), 60):
        rows = sum(max(step.rows.get(task, 0) for task in tasks) for tasks, _ in workload.sources)
        assert rows == workload.batch_rows


def test_equal_tasks_on_the_same_rows_always_draw_equally(variant: tuple[str, dict[str, Any]]) -> None:
    for step in steps(build(variant, WORKLOADS["twins"]), 200):
        assert step.rows.get("a") == step.rows.get("b")


def test_proportional_passes_each_task_once_through_its_rows_in_an_epoch() -> None:
    workload = Workload({"a": 640, "b": 64, "c": 64}, ((("a",), 640), (("b", "c"), 64)), 32)
    schedule = Parallel(ParallelOptions(proportions="proportional"), workload)
    drawn: Counter[str] = Counter()
    for step in itertools.islice(steps(schedule, 10**6), schedule.steps_per_epoch):
        drawn.update(step.rows)
    assert drawn == workload.sizes
