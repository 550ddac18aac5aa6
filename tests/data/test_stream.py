"""The stream: every row once an epoch, and a state of one integer a task from which it goes on as if never stopped."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.stream import WINDOW_BLOCKS, Drawn, Streams, epoch_order

lengths_of_rows = st.lists(st.integers(2, 60), min_size=1, max_size=120)
seeds = st.integers(0, 2**63 - 1)


class Rows(SimpleNamespace):
    """A source of so many rows."""

    def __len__(self) -> int:
        return len(self.lengths)


def rows(number: int, carries: dict[str, list[int]] | None = None, *, seed: int = 0) -> Any:
    carries = carries or {"one": list(range(number)), "two": list(range(number))}
    return Rows(
        tasks=tuple(carries),
        lengths=np.random.default_rng(seed).integers(2, 60, number).astype(np.int32),
        carries={name: np.array(found, dtype=np.int32) for name, found in carries.items()},
    )


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


def task_rows(drawn: list[Drawn], task: str) -> Counter[tuple[int, int]]:
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
                drawn += streams.draw({task: count})
                left -= count
            assert task_rows(drawn, task) == dict.fromkeys(expected, 1)


@given(found=sources(), seed=seeds, data=st.data())
def test_a_resumed_stream_goes_on_as_if_it_had_never_stopped(found: list[Any], seed: int, data: st.DataObject) -> None:
    tasks = [task for one in found for task in one.tasks]
    steps = data.draw(st.lists(st.dictionaries(st.sampled_from(tasks), st.integers(0, 50)), min_size=1, max_size=5))
    stop = data.draw(st.integers(0, len(steps)))
    whole = Streams(found, seed=seed, block=3)
    expected = [whole.draw(step) for step in steps]
    before = Streams(found, seed=seed, block=3)
    drawn = [before.draw(step) for step in steps[:stop]]
    after = Streams(found, seed=seed, block=3)
    after.load_state_dict(before.state_dict())
    assert drawn + [after.draw(step) for step in steps[stop:]] == expected
    assert after.state_dict() == whole.state_dict()


@given(found=sources(), data=st.data())
def test_the_state_is_one_integer_a_task_the_rows_drawn_so_far(found: list[Any], data: st.DataObject) -> None:
    tasks = [task for one in found for task in one.tasks]
    streams = Streams(found, seed=1, block=2)
    assert streams.state_dict() == dict.fromkeys(tasks, 0)
    steps = data.draw(st.lists(st.dictionaries(st.sampled_from(tasks), st.integers(0, 20)), max_size=5))
    total: Counter[str] = Counter()
    for step in steps:
        drawn = streams.draw(step)
        assert {task: sum(task_rows(drawn, task).values()) for task in step} == step
        total.update(step)
    assert streams.state_dict() == {task: total[task] for task in tasks}
    state = streams.state_dict()
    streams.draw(dict.fromkeys(tasks, 1))
    assert state == {task: total[task] for task in tasks}  # a copy, which later steps leave alone


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), seed=seeds)
def test_tasks_at_equal_positions_draw_identical_rows_once(counts: list[int], seed: int) -> None:
    streams = Streams([rows(17)], seed=seed, block=4)
    for count in counts:
        drawn = streams.draw({"one": count, "two": count})
        assert len(drawn) == count
        assert all(one.tasks == ("one", "two") for one in drawn)


def test_tasks_at_different_positions_share_the_rows_that_both_draw() -> None:
    streams = Streams([rows(20)], seed=1, block=4)
    drawn = streams.draw({"one": 20, "two": 5})
    assert [one.tasks for one in drawn] == [("one", "two")] * 5 + [("one",)] * 15
    alone = Streams([rows(20)], seed=1, block=4)
    assert task_rows(drawn, "two") == task_rows(alone.draw({"two": 5}), "two")


def test_a_tasks_rows_do_not_depend_on_what_others_draw() -> None:
    together, alone = (Streams([rows(20)], seed=1, block=4) for _ in range(2))
    for count in (3, 40, 7):
        mixed = together.draw({"one": count, "two": 9})
        assert task_rows(mixed, "one") == task_rows(alone.draw({"one": count}), "one")


def test_a_task_of_one_row_is_drawn_as_often_as_asked() -> None:
    streams = Streams([rows(5, {"small": [3], "large": [0, 1, 2, 3, 4]})], seed=1, block=4)
    drawn = streams.draw({"small": 7, "large": 10})
    assert task_rows(drawn, "small") == {(0, 3): 7}
    assert task_rows(drawn, "large") == {(0, row): 2 for row in range(5)}
    assert len(drawn) == 7 + 10 - 2  # the row's first two turns serve both tasks


def test_a_far_position_is_reached_at_once_and_few_epochs_are_kept() -> None:
    large = rows(1000)
    streams = Streams([large], seed=1, block=8)
    streams.load_state_dict({"one": 10**9 + 123, "two": 0})
    drawn = streams.draw({"one": 877})
    assert set(task_rows(drawn, "one").values()) == {1}
    for _ in range(5):
        streams.draw({"one": 1000, "two": 500})
    assert len(streams._streams[0]._orders) <= 2 * 3


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_a_position_of_the_stream_is_a_place_in_an_epoch(block: int) -> None:
    one = rows(30)
    streams = Streams([one], seed=5, block=block)
    drawn = [row.row for row in streams.draw({"one": 60})]
    orders = [epoch_order(one.lengths, seed=5, source=0, epoch=epoch, block=block).tolist() for epoch in range(2)]
    assert drawn == orders[0] + orders[1]
