"""The batch: every row in one chunk, padding behind its tokens, and targets in the order in which they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.batch import Batch, BatchRow
from polytask.data.collator import Collator
from polytask.data.groups import cut, groups_by_length
from polytask.tasks import TASKS, LabelStats, Task

PAD = 99
lengths_up = st.lists(st.integers(1, 40), max_size=8).map(sorted)


def cost(lengths: Sequence[int], ends: Sequence[int], overhead: int) -> int:
    starts = [0, *ends][:-1]
    return sum((end - start) * lengths[end - 1] + overhead for start, end in zip(starts, ends, strict=True))


def all_cuts(count: int, most: int) -> Iterator[list[int]]:
    if count == 0:
        yield []
        return
    for size in range(1, min(count, most) + 1):
        yield from ([*before, count] for before in all_cuts(count - size, most))


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for at in range(len(rest)):
            yield [*rest[:at], [items[0], *rest[at]], *rest[at + 1 :]]


@given(lengths=lengths_up, overhead=st.integers(0, 60), most=st.one_of(st.none(), st.integers(1, 8)))
def test_cut_costs_no_more_than_any_other(lengths: list[int], overhead: int, most: int | None) -> None:
    ends = cut(lengths, overhead, most)
    found = cost(lengths, ends, overhead)
    greatest = most or len(lengths)
    assert all(0 < end - start <= greatest for start, end in zip([0, *ends][:-1], ends, strict=True))
    assert ends[-1:] == ([len(lengths)] if lengths else [])
    assert found == min(cost(lengths, other, overhead) for other in all_cuts(len(lengths), greatest))


@given(
    lengths=st.lists(st.integers(1, 40), max_size=6).map(sorted), overhead=st.integers(0, 60), most=st.integers(1, 6)
)
def test_no_grouping_of_any_rows_costs_less_than_runs(lengths: list[int], overhead: int, most: int) -> None:
    every = [
        sum(len(group) * max(group) + overhead for group in groups)
        for groups in partitions(lengths)
        if all(len(group) <= most for group in groups)
    ]
    assert cost(lengths, cut(lengths, overhead, most), overhead) == min(every)


@given(lengths=st.lists(st.integers(1, 50)), tokens=st.integers(1, 200))
def test_groups_hold_every_index_once_and_stay_within_the_tokens(lengths: list[int], tokens: int) -> None:
    groups = list(groups_by_length(lengths, tokens))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    sizes = [len(group) * max(lengths[index] for index in group) for group in groups]
    assert all(size <= tokens or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
    tops = [max(lengths[index] for index in group) for group in groups]
    assert tops == sorted(tops, reverse=True)


def task(kind: str, *cells: dict[str, Any]) -> Task:
    chosen, stats = TASKS[kind].Options(type=kind), LabelStats()
    for cell in cells:
        stats.present += TASKS[kind].read(chosen, cell, stats) is not None
    return TASKS[kind].fit(kind, chosen, stats)


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return {
        "classification": task("classification", {"label": "x"}, {"label": "y"}, {"label": "z"}),
        "multilabel": task("multilabel", {"labels": ["p"]}, {"labels": ["q"]}),
        "regression": task("regression", {"score": 1}, {"score": 2}),
        "tagging": task("tagging", {"tokens": ["a", "b"], "tags": ["O", "B-X"]}),
    }


@st.composite
def items(draw: st.DrawFn) -> BatchRow:
    """A row whose targets tell it from any other: its number is drawn into each."""
    length = draw(st.integers(2, 12))
    mark = draw(st.integers(0, 10**6))
    chosen = draw(st.lists(st.sampled_from(["classification", "multilabel", "regression", "tagging"]), unique=True))
    words = draw(st.lists(st.integers(-1, length - 1), max_size=5))
    targets = {
        "classification": mark,
        "multilabel": np.array([mark % 2, mark % 3], dtype=np.float32),
        "regression": np.float32(mark / 7),
        "tagging": [mark + at for at in range(len(words))],
    }
    known = draw(st.booleans())
    return BatchRow(
        ids=[mark, *draw(st.lists(st.integers(0, 98), min_size=length - 1, max_size=length - 1))],
        type_ids=draw(st.one_of(st.none(), st.just([1] * length))),
        word_tokens=words,
        tasks=tuple(chosen),
        targets={name: targets[name] for name in chosen} if known else {},
    )


batches = st.lists(items(), min_size=1, max_size=10)


def collate(
    tasks: dict[str, Task], given_items: list[BatchRow], *, types: bool = True, most: int | None = None
) -> Batch:
    return Collator(tasks, PAD, types, 5).batch(given_items, most)


@given(given_items=batches, most=st.one_of(st.none(), st.integers(1, 4)))
def test_every_row_stands_in_one_chunk_with_its_own_tokens(
    given_items: list[BatchRow], most: int | None, tasks: dict[str, Task]
) -> None:
    batch = collate(tasks, given_items, most=most)
    assert sorted(batch.order) == list(range(len(given_items)))
    stacked = [(chunk, row) for chunk in batch.chunks for row in range(len(chunk.ids))]
    assert len(stacked) == batch.rows == len(given_items)
    for (chunk, row), index in zip(stacked, batch.order, strict=True):
        item, length = given_items[index], len(given_items[index].ids)
        assert chunk.ids[row].tolist() == [*item.ids, *[PAD] * (chunk.ids.shape[1] - length)]
        assert chunk.mask[row].tolist() == [1] * length + [0] * (chunk.ids.shape[1] - length)
        assert chunk.type_ids is not None
        assert chunk.type_ids[row].sum().item() == (0 if item.type_ids is None else length)
    assert all(chunk.mask.any(0).all() for chunk in batch.chunks)  # no column of padding alone
    assert all(len(chunk.ids) <= (most or len(given_items)) for chunk in batch.chunks)
    assert batch.tokens == sum(int(chunk.mask.sum()) for chunk in batch.chunks)
    assert batch.padded == sum(chunk.ids.numel() for chunk in batch.chunks)


@given(given_items=batches)
def test_targets_stand_in_the_order_in_which_chunks_read_rows_and_words(
    given_items: list[BatchRow], tasks: dict[str, Task]
) -> None:
    given_items = [item for item in given_items if item.targets or not item.tasks]
    batch = collate(tasks, given_items)
    read: dict[str, list[Any]] = {name: [] for name in tasks}
    start = 0
    for chunk in batch.chunks:
        indices = batch.order[start : start + len(chunk.ids)]
        start += len(chunk.ids)
        for name, found in chunk.tasks.items():
            own = [given_items[indices[row]] for row in found.rows.tolist()]
            assert all(name in item.tasks for item in own)
            assert len(own) == sum(name in given_items[index].tasks for index in indices)
            if name != "tagging":
                assert found.words is None
                read[name] += [np.asarray(item.targets[name]).tolist() for item in own]
                continue
            assert found.words is not None
            pairs = [
                (row, token, target)
                for row, index in enumerate(indices)
                for token, target in zip(
                    given_items[index].word_tokens, given_items[index].targets.get(name, ()), strict=False
                )
                if token >= 0
            ]
            assert found.words.tolist() == [[row for row, _, _ in pairs], [token for _, token, _ in pairs]]
            read[name] += [target for _, _, target in pairs]
    for name, expected in read.items():
        if name in batch.targets or expected:
            assert batch.targets[name].tolist() == expected


def test_targets_have_the_types_that_losses_take(tasks: dict[str, Task]) -> None:
    targets = {
        "classification": np.int32(2),
        "multilabel": np.array([1, 0], np.float32),
        "regression": np.float32(0.5),
        "tagging": [0, 1, 1],
    }
    item = BatchRow([1, 2, 3], None, [0, -1, 2], tuple(tasks), targets)
    batch = collate(tasks, [item, item], types=False)
    assert all(chunk.type_ids is None for chunk in batch.chunks)
    types = {name: (target.dtype, tuple(target.shape)) for name, target in batch.targets.items()}
    assert types == {
        "classification": (torch.int64, (2,)),
        "multilabel": (torch.float32, (2, 2)),
        "regression": (torch.float32, (2,)),
        "tagging": (torch.int64, (4,)),
    }
    for name, one in tasks.items():
        outputs = torch.zeros(len(batch.targets[name]), one.head.size)
        assert torch.isfinite(one.loss(outputs, batch.targets[name]))


@given(given_items=batches)
def test_rows_without_targets_batch_as_those_with_them(given_items: list[BatchRow], tasks: dict[str, Task]) -> None:
    bare = [BatchRow(item.ids, item.type_ids, item.word_tokens, item.tasks, {}) for item in given_items]
    with_targets, without = collate(tasks, given_items), collate(tasks, bare)
    assert without.targets == {}
    assert without.order == with_targets.order
    for one, other in zip(with_targets.chunks, without.chunks, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert one.tasks.keys() == other.tasks.keys()
        for name, found in one.tasks.items():
            assert torch.equal(found.rows, other.tasks[name].rows)
            assert (found.words is None) == (other.tasks[name].words is None)


def test_moving_a_batch_moves_all_of_it(tasks: dict[str, Task]) -> None:
    item = BatchRow([1, 2], [0, 1], [0], ("classification", "tagging"), {"classification": 1, "tagging": [1]})
    batch = collate(tasks, [item])
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    (chunk,) = moved.chunks
    assert chunk.type_ids is not None
    assert chunk.tasks["tagging"].words is not None
    tensors = [chunk.ids, chunk.mask, chunk.type_ids, chunk.tasks["tagging"].words, *moved.targets.values()]
    assert all(tensor.device.type == "meta" for tensor in [*tensors, *(rows.rows for rows in chunk.tasks.values())])
    assert (moved.order, moved.rows, moved.tokens, moved.padded) == (batch.order, 1, 2, 2)


def test_a_teachers_outputs_go_with_the_targets(tasks: dict[str, Task]) -> None:
    items = [
        BatchRow(
            list(range(3, 3 + length)), None, [0, -1, 2], ("classification", "tagging"),
            {"classification": length, "tagging": [length, 0, length]},
            {"classification": np.full((1, 3), length, np.float32), "tagging": np.full((3, 2), length, np.float32)},
        )
        for length in (9, 4, 6, 30)
    ]  # fmt: skip
    batch = collate(tasks, items, most=2)
    assert len(batch.chunks) > 1
    for name, teacher_logits in batch.teacher_logits.items():
        assert teacher_logits.dtype == torch.float32
        assert teacher_logits[:, 0].tolist() == batch.targets[name].tolist()
    assert batch.teacher_logits["tagging"].shape == (8, 2)
    alone = batch.with_label_weight(0.25).only("tagging")
    assert (list(alone.teacher_logits), list(alone.targets), alone.label_weight) == (["tagging"], ["tagging"], 0.25)
    moved = batch.with_label_weight(0.5).to(torch.device("meta"))
    assert {found.device.type for found in moved.teacher_logits.values()} == {"meta"}
    assert moved.label_weight == 0.5
    bare = collate(tasks, [BatchRow([1], None, [], (), {})])
    assert bare.teacher_logits == {}
    assert bare.with_label_weight(0.5) is bare
