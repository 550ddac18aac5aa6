"""Strata that are ordered shard by shard: the laws of the stream hold, and what is held does not grow with the rows."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.data.permutation import Permutation
from polytask.data.shards import SHARD_ROWS, ShardOrdering, _ShardRows
from polytask.data.stream import DrawnRow, Streams, strata

seeds = st.integers(0, 2**63 - 1)


class Rows(SimpleNamespace):
    """A source of so many rows."""

    def __len__(self) -> int:
        return len(self.lengths)


def source(number: int, tasks: str = "ab", carries: dict[str, Any] | None = None) -> Any:
    carries = carries or dict.fromkeys(tasks, np.arange(number, dtype=np.int32))
    lengths = np.random.default_rng(number).integers(2, 60, number).astype(np.int32)
    return Rows(tasks=tuple(carries), lengths=lengths, carries=carries, drawn=carries)


class Endless:
    """Lengths of any number of rows, which are counted when they are looked at."""

    def __init__(self, rows: int) -> None:
        self.rows, self.seen = rows, 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Any) -> Any:
        self.seen += len(rows)
        return (np.asarray(rows) % 61 + 3).astype(np.int32)


def endless(rows: int, tasks: tuple[str, ...]) -> Any:
    return Rows(tasks=tasks, lengths=Endless(rows), drawn=dict.fromkeys(tasks, range(rows)))


def sharded(sources: list[Any], *, seed: int = 1, shard_rows: int = 7) -> Streams:
    return Streams(sources, seed=seed, block=3, whole_rows=0, shard_rows=shard_rows)


def served(drawn: list[DrawnRow], task: str) -> Counter[tuple[int, int]]:
    return Counter((one.source, one.row) for one in drawn if task in one.tasks)


@given(size=st.integers(1, 3000), seed=seeds)
def test_a_computed_permutation_is_one(size: int, seed: int) -> None:
    found = Permutation(size, np.random.default_rng(seed))(np.arange(size))
    assert sorted(found.tolist()) == list(range(size))


def test_a_computed_permutation_spreads_neighbours_and_differs_by_its_keys() -> None:
    size = 200_000
    found = Permutation(size, np.random.default_rng(1))(np.arange(size))
    # Of a random order: the mean of any part is n / 2, the mean step n / 3, and one number stays where it is.
    assert abs(found[: size // 8].mean() / size - 0.5) < 0.01
    assert abs(np.abs(np.diff(found)).mean() / size - 1 / 3) < 0.01
    fixed = int((found == np.arange(size)).sum())
    assert fixed < 10
    other = Permutation(size, np.random.default_rng(2))(np.arange(size))
    assert int((found == other).sum()) < 10


@given(size=st.integers(1, 90), shard_rows=st.integers(1, 30), seed=seeds, data=st.data())
def test_each_row_comes_once_an_epoch(size: int, shard_rows: int, seed: int, data: st.DataObject) -> None:
    streams = sharded([source(size)], seed=seed, shard_rows=shard_rows)
    epochs = []
    for _ in range(2):
        left, drawn = size, list[int]()
        while left:
            count = data.draw(st.integers(1, left))
            drawn += [one.row for one in streams.draw_each({"a": count, "b": count})]
            left -= count
        assert sorted(drawn) == list(range(size))
        epochs.append(drawn)
    assert streams.state_dict() == [[2 * size]]
    assert size < 40 or epochs[0] != epochs[1]  # of few blocks two epochs may have the same order


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 120), shard_rows=st.integers(1, 40), data=st.data())
def test_tasks_that_stand_apart_see_each_row_once_an_epoch(size: int, shard_rows: int, data: st.DataObject) -> None:
    some = st.lists(st.integers(0, size - 1), min_size=1, unique=True).map(sorted)
    carries = {name: np.array(data.draw(some), dtype=np.int32) for name in "abc"}
    streams = sharded([source(size, carries=carries)], shard_rows=shard_rows)
    steps = data.draw(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)), min_size=1, max_size=12))
    seen = {name: Counter[int]() for name in "abc"}
    for step in steps:
        drawn = streams.draw_each(step)
        for task, count in step.items():
            rows = served(drawn, task)
            assert sum(rows.values()) == count
            seen[task].update(row for _, row in rows.elements())
    for tasks, rows in streams_rows(streams, 0):
        for task in tasks:
            times = [seen[task][row] for row in rows]
            assert max(times) - min(times) <= 1


def streams_rows(streams: Streams, number: int) -> list[tuple[tuple[str, ...], list[int]]]:
    """Return the tasks and the rows of each stratum of a source."""
    return [
        (stream.tasks, rows.listed(np.arange(stream.rows)).tolist())
        for stream, rows in zip(streams._streams[number], streams._rows[number], strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 120), shard_rows=st.integers(1, 40), seed=seeds, data=st.data())
def test_a_resumed_stream_goes_on_as_if_it_had_never_stopped(
    size: int, shard_rows: int, seed: int, data: st.DataObject
) -> None:
    def fresh() -> Streams:
        return sharded([source(size, "abc")], seed=seed, shard_rows=shard_rows)

    step = st.dictionaries(st.sampled_from("abc"), st.integers(0, 50))
    steps = data.draw(st.lists(step, min_size=1, max_size=8))
    stop = data.draw(st.integers(0, len(steps)))
    whole, before, after = fresh(), fresh(), fresh()
    expected = [whole.draw_each(one) for one in steps]
    drawn = [before.draw_each(one) for one in steps[:stop]]
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert drawn + [after.draw_each(one) for one in steps[stop:]] == expected
    assert after.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    "rates",
    [{"a": 16, "b": 8}, {"a": 16, "b": 5, "c": 11}, {"a": 16, "b": 1, "c": 1, "d": 2}, {"a": 9, "b": 9, "c": 4}],
    ids=str,
)
def test_slower_tasks_train_on_rows_that_pass_for_faster_ones(rates: dict[str, int]) -> None:
    """Over several epochs of each; rates that vary from step to step, as rounding makes them."""
    size = 500 * min(4, min(rates.values()))
    streams = sharded([source(size, "".join(rates))], shard_rows=50)
    generator, passes, asked = np.random.default_rng(0), 0, 0
    for _ in range(4 * size // min(rates.values())):
        step = {task: int(rate + generator.integers(0, 2)) for task, rate in rates.items()}
        passes, asked = passes + len(streams.draw_each(step)), asked + max(step.values())
    assert passes <= 1.1 * asked


def test_rows_of_similar_length_come_together() -> None:
    one = source(6400)
    drawn = [row.row for row in Streams([one], seed=1, block=8, whole_rows=0, shard_rows=1600).draw_each({"a": 6400})]
    blocks = one.lengths[np.array(drawn)].reshape(-1, 8)
    assert (blocks.max(1) - blocks.min(1)).mean() < 3  # of 58


def test_small_strata_keep_the_order_that_they_had() -> None:
    one = source(3000)
    assert not isinstance(Streams([one], seed=1, block=8)._streams[0][0].ordering, ShardOrdering)


BILLION = 10**9


def test_a_thousand_tasks_and_a_billion_rows_are_begun_without_looking_at_them() -> None:
    """By count: rows looked at, rows whose order is held, bytes of the state."""
    tasks = [tuple(f"{source}.{number}" for number in range(20)) for source in range(50)]
    sources = [endless(BILLION // 50, names) for names in tasks]
    streams = Streams(sources, seed=1, block=8)
    assert sum(strata(one)[0].rows for one in sources) == BILLION
    half = [[BILLION // 100 + 12_345] for _ in sources]
    streams.load_state_dict(half)
    assert sum(one.lengths.seen for one in sources) == 0
    drawn = streams.draw_each(dict.fromkeys(tasks[7], 32))
    assert len(drawn) == 32
    assert {len(one.tasks) for one in drawn} == {20}
    assert sum(one.lengths.seen for one in sources) <= 2 * SHARD_ROWS
    assert sum(held(streams)) <= 2 * SHARD_ROWS
    assert len(json.dumps(streams.state_dict())) < 2000


def held(streams: Streams) -> list[int]:
    found = [one.ordering for stream in streams._streams for one in stream]
    assert all(isinstance(one, ShardOrdering) for one in found)
    return [one.held_rows for one in found if isinstance(one, ShardOrdering)]


def test_tasks_that_stand_apart_in_a_billion_rows_have_a_small_state() -> None:
    streams = Streams([endless(BILLION, ("a", "b", "c"))], seed=1, block=8)
    streams.load_state_dict([[BILLION // 3]])
    passes = 0
    for _ in range(30):
        passes += len(streams.draw_each({"a": 32, "b": 16, "c": 7}))
    assert passes <= 1.02 * 30 * 32
    state = json.dumps(streams.state_dict())
    assert len(state) < 3 * (4 / 3 * 4 * SHARD_ROWS / 8 + 100)
    again = Streams([endless(BILLION, ("a", "b", "c"))], seed=1, block=8)
    again.load_state_dict(json.loads(state))
    assert again.draw_each({"a": 32, "b": 16, "c": 7}) == streams.draw_each({"a": 32, "b": 16, "c": 7})
    assert sum(held(again)) <= 6 * SHARD_ROWS


def test_what_stands_apart_does_not_grow_with_the_steps() -> None:
    """However long tasks stand apart, each has begun a few shards alone, and a few bytes tell which are untouched."""
    streams = Streams([endless(BILLION, ("a", "b", "c"))], seed=1, block=8)
    streams.load_state_dict([[BILLION // 3]])
    begun: list[int] = []
    sizes: list[int] = []
    for step in range(120):
        streams.draw_each({"a": 32, "b": 16, "c": 7})
        if step % 40 == 39:
            lefts = [cursor.remaining for cursor in streams._streams[0][0].cursors.values()]
            begun.append(max(len(left.begun) for left in lefts if isinstance(left, _ShardRows)))
            untouched = [value[2] for value in streams.state_dict()[0][0].values()]
            sizes.append(max(map(len, untouched)))
    assert max(begun) <= 2 * 3
    assert max(sizes) <= 200
