"""Rows without their padding: the same outputs and gradients as with it, under every sharing, by groups of any rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polytask.model.multitask import MultiTaskModel
from polytask.model.packing import PackedContext, Padding
from stacks import MIXTURES, TREES, batch, chunk, gradients, require_near, row_reads, stack, takes_types, total

KINDS = ("copy", "soft", "lora", "adapter")
SHARED: dict[str, Any] = {
    "global": TREES["global"],
    **{f"branches-{kind}": TREES["branches"] | {"kind": kind} for kind in KINDS},
    "independent": TREES["independent"],
    **MIXTURES,
}
ROTARY = ("modernbert", "eurobert", "nomic_bert", "jina_embeddings_v3", "qwen3", "gemma3_text")


def with_padding(model: MultiTaskModel) -> MultiTaskModel:
    """Return a copy of a model that computes the padding too."""
    other = copy.deepcopy(model)
    for trunk in other.trunks:
        trunk.packs = False
    return other


def require_same(model: MultiTaskModel, reads: Sequence[Mapping[str, Sequence[int]]], *, type_ids: bool = True) -> None:
    padded = with_padding(model)
    rows = batch(*(chunk(found, width=36, type_ids=type_ids) for found in reads))
    assert model.packs
    found, expected = model(rows), padded(rows)
    for task, outputs in expected.items():
        torch.testing.assert_close(found[task], outputs, atol=2e-5, rtol=1e-4)
    own, others = gradients(model, total(found)), gradients(padded, total(expected))
    require_near(own, others)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("options", SHARED.values(), ids=SHARED)
@settings(max_examples=6)
@given(reads=st.lists(row_reads(), min_size=1, max_size=2))
def test_outputs_and_gradients_are_those_of_padded_rows(
    options: dict[str, Any], checkpointing: bool, reads: list[dict[str, list[int]]]
) -> None:
    model = stack(options, seed=3)
    model.checkpointing(checkpointing)
    require_same(model, reads)


@pytest.mark.parametrize("family", ROTARY)
@pytest.mark.parametrize("kind", ["copy", "lora"])
def test_rotary_positions_follow_the_tokens(family: str, kind: str) -> None:
    model = stack(TREES["branches"] | {"kind": kind}, family, seed=3)
    reads = [{"a": [0, 3, 5], "b": [1, 3], "c": [2, 5]}, {"a": [4], "c": [6, 7]}]
    require_same(model, reads, type_ids=takes_types(family))


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), more=st.integers(0, 3))
def test_padding_that_is_added_and_removed_leaves_the_tokens(lengths: list[int], more: int) -> None:
    padding = Padding.of(np.asarray(lengths, dtype=np.int64), max(lengths) + more, torch.device("cpu"))
    tokens = torch.arange(1.0, sum(lengths) + 1)[:, None]
    table = padding.add(tokens)
    assert table.shape == (len(lengths), max(lengths) + more, 1)
    assert torch.equal(padding.remove(table), tokens)
    assert torch.equal((table[..., 0] > 0).sum(1), torch.tensor(lengths))
    rows = tokens.squeeze(1).split(lengths)
    for row, found in zip(rows, table, strict=True):
        assert torch.equal(found[: len(row), 0], row)
        assert not found[len(row) :].any()


@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6), data=st.data())
def test_a_group_holds_the_tokens_of_its_rows(lengths: list[int], data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1)))
    context = PackedContext(lengths, max(lengths), {"a": torch.tensor(rows), "b": torch.arange(len(lengths))})
    group = context.group(frozenset("a"))
    assert group is not None
    starts = np.cumsum([0, *lengths])
    expected = [token for row in rows for token in range(starts[row], starts[row + 1])]
    found = list(range(sum(lengths))) if group.rows is None else group.rows.tolist()
    assert found == expected
    assert group.count == len(expected)
    states = torch.rand(len(lengths), max(lengths), 2)
    inside = context.entered(states)
    assert inside.shape == (sum(lengths), 1, 2) or max(lengths) == 1
    padded = context.left(inside)
    assert padded.states.shape == states.shape
    for row, length in enumerate(lengths):
        assert torch.equal(padded.states[row, :length], states[row, :length])
        assert not padded.states[row, length:].any()
