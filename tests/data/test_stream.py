"""The stream: every row once an epoch, a row serves all tasks that it may, and a small state to go on from."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.order import WINDOW_BLOCKS, epoch_order
from polytask.data.stream import DrawnRow, Streams, strata

lengths_of_rows = st.lists(st.integers(2, 60), min_size=1, max_size=120)
seeds = st.integers(0, 2**63 - 1)


class Rows(SimpleNamespace):
    """A source of so many rows."""

    def __len__(self) -> int:
        return len(self.lengths)


def rows(number: int, carries: dict[str, list[int]] | None = None, *, seed: int = 0) -> Any:
    carries = carries or {"one": list(range(number)), "two": list(range(number))}
    drawn = {name: np.array(found, dtype=np.int32) for name, found in carries.items()}
    lengths = np.random.default_rng(seed).integers(2, 60, number).astype(np.int32)
    return Rows(tasks=tuple(carries), lengths=lengths, carries=drawn, drawn=drawn)


@st.composite
def sources(draw: st.DrawFn) -> list[Any]:
    """One to three sources, each with tasks that carry some of its rows."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 40))
        some = st.lists(st.integers(0, size - 1), min_size=1, unique=True).map(sorted)
        carries = {f"task{number}{at}": draw(some) for at in range(draw(st.integers(1, 3)))}
        found.append(rows(size, carries, seed=number))
    return found


def task_rows(drawn: list[DrawnRow], task: str) -> Counter[tuple[int, int]]:
    return Counter((one.source, one.row) for one in drawn if task in one.tasks)


@given(lengths=lengths_of_rows, seed=seeds, epoch=st.integers(0, 2**31), block=st.integers(1, 130))
def test_an_epoch_holds_every_row_once(lengths: list[int], seed: int, epoch: int, block: int) -> None:
    given_lengths = np.array(lengths, dtype=np.int32)
    order = epoch_order(given_lengths, seed=seed, source=2, epoch=epoch, block=block)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    again = epoch_order(given_lengths, seed=seed, source=2, epoch=epoch, block=block)
    assert np.array_equal(order, again)


def test_rows_of_a_block_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 500, 8 * WINDOW_BLOCKS).astype(np.int32)
    order = epoch_order(lengths, seed=1, source=0, epoch=0, block=8)
    blocks = lengths[order].reshape(-1, 8)
    spread = (blocks.max(1) - blocks.min(1)).mean()
    assert spread < 15  # of 498 for rows in random order nearly all


def test_blocks_differ_in_every_epoch_source_and_seed() -> None:
    lengths = np.random.default_rng(0).integers(2, 500, 2000).astype(np.int32)

    def blocks(**rest: int) -> set[frozenset[int]]:
        order = epoch_order(lengths, block=8, **{"seed": 1, "source": 0, "epoch": 0, **rest})
        return {frozenset(order[at : at + 8].tolist()) for at in range(0, len(order), 8)}

    first = blocks()
    for other in (blocks(epoch=1), blocks(source=1), blocks(seed=2)):
        assert len(first & other) < 5


@given(found=sources(), seed=seeds, block=st.integers(1, 10), data=st.data())
def test_every_task_sees_each_of_its_rows_once_an_epoch(
    found: list[Any], seed: int, block: int, data: st.DataObject
) -> None:
    streams = Streams(found, seed=seed, block=block)
    for number, task in [(number, task) for number, one in enumerate(found) for task in one.tasks]:
        carried = found[number].carries[task].tolist()
        size, expected = len(carried), {(number, row) for row in carried}
        for _ in range(2):
            left, drawn = size, []
            while left:
                count = data.draw(st.integers(1, left))
                drawn += streams.draw_each({task: count})
                left -= count
            assert task_rows(drawn, task) == dict.fromkeys(expected, 1)


@given(found=sources(), seed=seeds, data=st.data())
def test_a_resumed_stream_goes_on_as_if_it_had_never_stopped(found: list[Any], seed: int, data: st.DataObject) -> None:
    tasks = [task for one in found for task in one.tasks]
    steps = data.draw(st.lists(st.dictionaries(st.sampled_from(tasks), st.integers(0, 50)), min_size=1, max_size=5))
    stop = data.draw(st.integers(0, len(steps)))
    whole = Streams(found, seed=seed, block=3)
    expected = [whole.draw_each(step) for step in steps]
    before = Streams(found, seed=seed, block=3)
    drawn = [before.draw_each(step) for step in steps[:stop]]
    after = Streams(found, seed=seed, block=3)
    after.load_state_dict(before.state_dict())
    assert drawn + [after.draw_each(step) for step in steps[stop:]] == expected
    assert after.state_dict() == whole.state_dict()


@given(found=sources(), data=st.data())
def test_every_task_gets_the_rows_it_asks_for(found: list[Any], data: st.DataObject) -> None:
    tasks = [task for one in found for task in one.tasks]
    streams = Streams(found, seed=1, block=2)
    steps = data.draw(st.lists(st.dictionaries(st.sampled_from(tasks), st.integers(0, 20)), max_size=5))
    for step in steps:
        drawn = streams.draw_each(step)
        assert {task: sum(task_rows(drawn, task).values()) for task in step} == step


@given(counts=st.lists(st.integers(0, 40), max_size=6))
def test_the_state_of_tasks_that_go_together_is_one_integer_the_rows_drawn_so_far(counts: list[int]) -> None:
    streams = Streams([rows(17), rows(5, {"three": [1, 2]})], seed=1, block=2)
    for count in counts:
        streams.draw_each({"one": count, "two": count, "three": 1})
    state = streams.state_dict()
    assert state == [[sum(counts)], [len(counts)]]
    streams.draw_each({"one": 3, "three": 1})
    assert state == [[sum(counts)], [len(counts)]]  # a copy, which later steps leave alone


def test_the_state_of_tasks_that_stand_apart_is_a_bit_a_row() -> None:
    streams = Streams([rows(8000)], seed=1, block=8)
    for _ in range(20):
        streams.draw_each({"one": 30, "two": 10})
    one, two = (streams.state_dict()[0][0][task] for task in ("one", "two"))
    assert (one[0], two[0]) == (600, 200)
    assert len(json.dumps([one, two])) < 2 * 8000 / 8 * 4 / 3 + 50


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), seed=seeds)
def test_tasks_at_equal_positions_draw_identical_rows_once(counts: list[int], seed: int) -> None:
    streams = Streams([rows(17)], seed=seed, block=4)
    for count in counts:
        drawn = streams.draw_each({"one": count, "two": count})
        assert len(drawn) == count
        assert all(one.tasks == ("one", "two") for one in drawn)


@given(few=st.integers(1, 7), many=st.integers(7, 9), size=st.integers(10, 60), seed=seeds)
def test_a_task_that_wants_fewer_rows_trains_on_rows_of_the_other(few: int, many: int, size: int, seed: int) -> None:
    """Whatever their positions: no row passes for the slow task alone, but for the few at the end of an epoch."""
    streams = Streams([rows(size)], seed=seed, block=4)
    passes = 0
    for _ in range(40):
        drawn = streams.draw_each({"one": many, "two": few})
        assert sum(task_rows(drawn, "two").values()) == few
        passes += len(drawn)
    assert passes <= 40 * many * 1.1


def test_a_task_that_begins_late_joins_the_others_and_still_sees_each_row_once_an_epoch() -> None:
    streams = Streams([rows(20)], seed=1, block=4)
    streams.draw_each({"one": 13})
    seen: Counter[tuple[int, int]] = Counter()
    for _ in range(20):
        drawn = streams.draw_each({"one": 6, "two": 6})
        assert sum(len(one.tasks) for one in drawn) == 12
        seen.update(task_rows(drawn, "two"))
        assert max(seen.values()) - min(seen[0, row] for row in range(20)) <= 1
    assert len({task: streams.state_dict()[0][0][task] for task in ("one", "two")}) == 2


def test_rows_without_a_label_are_never_drawn() -> None:
    streams = Streams([rows(50, {"one": [3, 40], "two": [40, 41]})], seed=1, block=4)
    drawn = streams.draw_each({"one": 8, "two": 8})
    assert {one.row for one in drawn} == {3, 40, 41}


def test_strata_hold_every_labelled_row_once_with_just_its_tasks() -> None:
    source = rows(9, {"a": [0, 1, 2, 5], "b": [1, 2, 3], "c": [7]})
    assert {stratum.tasks: stratum.rows for stratum in strata(source)} == {
        ("a", "b"): 2,
        ("a",): 2,
        ("b",): 1,
        ("c",): 1,
    }
    assert strata(rows(4, {"a": []})) == ()
    many = {f"t{number}": [number] for number in range(200)}
    assert {stratum.tasks for stratum in strata(rows(200, many))} == {(task,) for task in many}


def test_a_task_of_one_row_is_drawn_as_often_as_asked() -> None:
    streams = Streams([rows(5, {"small": [3], "large": [0, 1, 2, 3, 4]})], seed=1, block=4)
    drawn = streams.draw_each({"small": 7, "large": 10})
    assert task_rows(drawn, "small") == {(0, 3): 7}
    assert task_rows(drawn, "large") == {(0, row): 2 for row in range(5)}
    assert len(drawn) == 7 + 10 - 2  # the row's first two turns serve both tasks


def test_a_far_position_is_reached_at_once_and_few_epochs_are_kept() -> None:
    large = rows(1000)
    streams = Streams([large], seed=1, block=8)
    streams.load_state_dict([[{"one": 10**9 + 123, "two": 0}]])
    drawn = streams.draw_each({"one": 877})
    assert set(task_rows(drawn, "one").values()) == {1}
    for _ in range(5):
        streams.draw_each({"one": 1000, "two": 500})
    assert len(streams._streams[0][0].ordering._orders) <= 3


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_position_of_the_stream_is_a_place_in_an_epoch(block: int) -> None:
    one = rows(30)
    streams = Streams([one], seed=5, block=block)
    drawn = [row.row for row in streams.draw_each({"one": 60})]
    orders = [epoch_order(one.lengths, seed=5, source=0, epoch=epoch, block=block).tolist() for epoch in range(2)]
    assert drawn == orders[0] + orders[1]
