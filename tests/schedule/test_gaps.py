"""Empty cells: what every schedule promises of encoder rows and of exposure, over random patterns of gaps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variants import DYNAMIC, PARALLEL, VARIANTS, Variant, play, promised

from polytask.data.stream import DrawnRow, Streams, rows_by_stratum, strata
from polytask.schedule import Parallel, ParallelOptions, Schedule, Workload, passed
from polytask.schedule.schedule import require_reachable
from polytask.terms import Stratum

LAWS = settings(max_examples=12, deadline=None)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


class Rows(SimpleNamespace):
    """A source of so many rows."""

    def __len__(self) -> int:
        return len(self.lengths)


def source_of(labels: list[str], tasks: str) -> Any:
    """Return a source: for each row the names of the tasks whose labels it carries, a letter each."""
    carries = {task: np.flatnonzero([task in row for row in labels]).astype(np.int32) for task in tasks}
    lengths = np.random.default_rng(len(labels)).integers(2, 60, len(labels)).astype(np.int32)
    return Rows(tasks=tuple(tasks), lengths=lengths, carries=carries, drawn=carries)


@dataclass(frozen=True)
class Gaps:
    """Sources with empty cells, and the run on them."""

    sources: list[Any]
    run: Workload

    def streams(self) -> Streams:
        return Streams(self.sources, seed=3, block=4)


def run_on(sources: list[Any], batch_size: int, *, needs: Mapping[str, Any] | None = None, epochs: float = 3) -> Gaps:
    sizes = {task: len(source.carries[task]) for source in sources for task in source.tasks}
    found = tuple(strata(source) for source in sources)
    metrics = dict.fromkeys(sizes, "f1")
    return Gaps(sources, Workload(sizes, found, batch_size, epochs, metrics, needs or {}))


@st.composite
def gaps(draw: st.DrawFn, *, needy: bool = False) -> Gaps:
    """One to three files of one to four tasks, with rows that carry any of their labels, or none."""
    names, sources = iter("abcdefghijkl"), list[Any]()
    for _ in range(draw(st.integers(1, 3))):
        tasks = "".join(next(names) for _ in range(draw(st.integers(1, 4))))
        some = st.sets(st.sampled_from(tasks)).map("".join)
        rows = draw(st.lists(some, min_size=1, max_size=50))
        sources.append(source_of([*rows, *tasks], tasks))
    tasks = [task for source in sources for task in source.tasks]
    late = draw(st.lists(st.sampled_from(tasks), unique=True, max_size=2)) if needy else []
    needs = {task: tasks[:1] for task in late if task != tasks[0]}
    return run_on(sources, draw(st.integers(1, 12)), needs=needs)


def draws(schedule: Schedule, streams: Streams, count: int = 10**6) -> Iterator[list[DrawnRow]]:
    """Draw the rows of a run, and compare them with what the schedule said."""
    for step, _ in play(schedule, count):
        drawn = streams.draw(step.portions)
        assert Counter(task for one in drawn for task in one.tasks) == step.rows
        yield drawn


def served(drawn: list[DrawnRow]) -> Counter[tuple[str, int]]:
    """Return how often each task saw each row; tasks have one source each."""
    return Counter((task, one.row) for one in drawn for task in one.tasks)


def proportional(run: Workload) -> Schedule:
    return Parallel(ParallelOptions(proportions="proportional"), run)


def test_one_file_with_two_halves_is_as_two_files() -> None:
    one = run_on([source_of(["a"] * 100 + ["b"] * 100, "ab")], 10, epochs=1)
    two = run_on([source_of(["a"] * 100, "a"), source_of(["b"] * 100, "b")], 10, epochs=1)
    for found in (one, two):
        steps = list(draws(proportional(found.run), found.streams()))
        assert [len(drawn) for drawn in steps] == [10] * 20
        assert set(served(list(chain(*steps))).values()) == {1}
        assert all(Counter(one.tasks for one in drawn) == {("a",): 5, ("b",): 5} for drawn in steps)


def test_rows_without_a_label_cost_nothing_and_do_not_lengthen_the_epoch() -> None:
    found = run_on([source_of(["", "", "y", "", ""] * 40, "y")], 10, epochs=1)
    steps = list(draws(proportional(found.run), found.streams()))
    assert [len(drawn) for drawn in steps] == [10] * 4
    assert served(list(chain(*steps))) == {("y", row): 1 for row in range(2, 200, 5)}


@LAWS
@given(found=gaps(), data=st.data())
def test_proportional_passes_each_labelled_row_once_an_epoch_for_all_its_tasks(
    found: Gaps, data: st.DataObject
) -> None:
    rows = found.run.rows
    batch = data.draw(st.sampled_from([number for number in range(1, rows + 1) if rows % number == 0]))
    run = run_on(found.sources, batch, epochs=2).run
    streams, schedule = found.streams(), proportional(run)
    steps = list(draws(schedule, streams))
    assert len(steps) == 2 * rows // batch
    assert {len(drawn) for drawn in steps} == {batch}
    for first in (0, len(steps) // 2):
        epoch = Counter(chain(*steps[first : first + len(steps) // 2]))
        assert epoch == {
            DrawnRow(number, int(row), tasks): 1
            for number, source in enumerate(found.sources)
            for tasks, own in rows_by_stratum(source)
            for row in own
        }


@every_variant
@settings(max_examples=5, deadline=None)
@given(found=gaps(needy=True))
def test_every_schedule_shows_each_task_its_rows_evenly_and_passes_about_the_rows_of_a_batch(
    variant: Variant, found: Gaps
) -> None:
    """The rows that each task was dealt; none twice before all others of its stratum; few more than `batch_size`."""
    seen: Counter[tuple[str, int]] = Counter()
    rows = steps = 0
    for drawn in draws(variant.build(found.run), found.streams(), 300):
        seen.update(served(drawn))
        rows, steps = rows + len(drawn), steps + 1
        assert len(drawn) >= found.run.batch_size
    for source in found.sources:
        for tasks, own in rows_by_stratum(source):
            for task in tasks:
                times = [seen[task, int(row)] for row in own]
                assert max(times) - min(times) <= 1
    slack = sum(stratum.rows for found_strata in found.run.sources for stratum in found_strata if stratum.rows < 5)
    assert rows <= 1.1 * steps * found.run.batch_size + slack + 8


@pytest.mark.parametrize("variant", PARALLEL, ids=str)
@LAWS
@given(found=gaps())
def test_quotas_are_met_with_the_fewest_encoder_rows(variant: Variant, found: Gaps) -> None:
    """A stratum passes what its most demanding task draws of it, and the tasks have their shares of all rows."""
    if variant.options["proportions"] == "annealed":
        return  # its shares change from step to step
    run = run_on(found.sources, found.run.batch_size, epochs=8).run
    shares = promised(variant, run)
    drawn: Counter[str] = Counter()
    rows = 0
    for step in draws(variant.build(run), found.streams()):
        rows += len(step)
        drawn.update(task for one in step for task in one.tasks)
    times = drawn.total() / sum(shares.values())
    count = sum(map(len, run.sources))
    assert all(abs(drawn[task] - times * shares[task]) <= 2 * count + 2 for task in run.sizes)
    assert rows <= 1.1 * passed(run.sources, run.sizes, drawn) + 2 * count + 8


@pytest.mark.parametrize("variant", [*PARALLEL[:1], *DYNAMIC, VARIANTS[-2]], ids=str)
@settings(max_examples=5, deadline=None)
@given(found=gaps(needy=True), data=st.data())
def test_a_resumed_run_draws_what_it_would_have_drawn(variant: Variant, found: Gaps, data: st.DataObject) -> None:
    whole, streams = variant.build(found.run), found.streams()
    expected = list(draws(whole, streams, 40))
    stop = data.draw(st.integers(0, len(expected)))
    before, first = variant.build(found.run), found.streams()
    again = list(draws(before, first, stop))
    saved = json.loads(json.dumps([before.state_dict(), first.state_dict()]))
    after, second = variant.build(found.run), found.streams()
    after.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    again += list(draws(after, second, len(expected) - stop))
    assert again == expected
    assert second.state_dict() == streams.state_dict()


def test_a_task_that_becomes_ready_in_mid_epoch_trains_on_the_rows_that_pass_anyway() -> None:
    found = run_on([source_of(["ab", "ab", "a", "b"] * 25, "ab")], 10, needs={"b": ["a"]}, epochs=4)
    seen: Counter[tuple[str, int]] = Counter()
    lengths = []
    for drawn in draws(proportional(found.run), found.streams()):
        lengths.append(len(drawn))
        seen.update(served(drawn))
    assert set(lengths) == {10}
    for task in "ab":
        times = [seen[task, int(row)] for row in found.sources[0].carries[task]]
        assert max(times) - min(times) <= 1


def test_rows_of_many_small_strata_meet_others_in_every_epoch() -> None:
    tasks = "abcdefgh"
    labels = ["".join(task for place, task in enumerate(tasks) if number >> place & 1) for number in range(1, 129)]
    found = run_on([source_of(labels, tasks)], 8, epochs=2)
    assert len(found.run.sources[0]) == 128
    steps = [frozenset(one.row for one in drawn) for drawn in draws(proportional(found.run), found.streams())]
    assert len(steps) == 32
    assert set().union(*steps[:16]) == set().union(*steps[16:]) == set(range(128))
    assert not set(steps[:16]) & set(steps[16:])


@every_variant
@LAWS
@given(found=gaps(needy=True))
def test_what_is_said_to_draw_for_sure_does(variant: Variant, found: Gaps) -> None:
    schedule = variant.build(found.run)
    sure = {task for task in found.run.sizes if schedule.draws_for_sure(task)}
    drawn = {task for step in draws(schedule, found.streams(), 10**6) for one in step for task in one.tasks}
    assert sure <= drawn


def test_a_run_of_a_billion_rows_is_known_to_train_every_task_without_being_played() -> None:
    sizes = {f"t{number}": 10**6 for number in range(999)} | {"small": 100}
    run = Workload(sizes, tuple((Stratum((task,), size),) for task, size in sizes.items()), 32)
    schedule = ParallelOptions(proportions="proportional").build(run)
    require_reachable(schedule)
    assert schedule.step == 0
