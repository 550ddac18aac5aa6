"""A grown model computes for old tasks what it did, and for new ones what the task does that they follow."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from families import LAYERED
from polytask.model.growth import extended
from polytask.model.parameters import train_only
from polytask.sharing.growth import ExtendOptions, grow
from stacks import HEADS, READS, TREES, batch_of, sharing_of, stack, takes_types

OLD, NEW = ("a", "b", "c"), ("d", "e")
SPECS = {**HEADS, "e": HEADS["a"]}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "head": (TREES["global"], {}),
    "copy": (TREES["global"], {"shared_layers": 1}),
    "lora": (TREES["global"], {"shared_layers": 1, "kind": "lora", "rank": 2}),
    "adapter": (TREES["global"], {"shared_layers": 0, "kind": "adapter", "rank": 2}),
    "tree": (TREES["shared_layers"], {"shared_layers": 2, "follow": "b"}),
    "lora tree": ({**TREES["shared_layers"], "kind": "lora"}, {"shared_layers": 0, "follow": "b"}),
    "independent": (TREES["independent"], {"shared_layers": 1, "follow": "c"}),
}


# The families differ in how layers are taken out and put in, not in the plan.
CASES = [(way, family) for way in WAYS for family in LAYERED if family == "bert" or way in ("copy", "lora")]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("way", "family"), CASES)
def test_old_tasks_compute_what_they_did(way: str, family: str) -> None:
    plan, options = WAYS[way]
    old = stack(sharing_of(plan, OLD), family, seed=3)
    kept = copy.deepcopy(old.state_dict())
    growth = grow(old.sharing, NEW, ExtendOptions.model_validate(options))
    new = extended(old, growth, SPECS).eval()
    assert all(torch.equal(value, kept[name]) for name, value in old.state_dict().items())
    for reads in READS:
        asked = {task: rows for task, rows in reads.items() if task in OLD}
        if asked:
            given = batch_of(asked, type_ids=takes_types(family))
            found, expected = new(given), old(given)
            assert all(torch.equal(found[task], expected[task]) for task in asked)
    followed = options.get("follow", "a")
    assert new.plan.within(OLD) == old.plan
    own = options.get("shared_layers", 9) + 1
    for level in range(len(new.plan.levels)):
        assert (followed in new.plan.part(level, "d")) == (level < own)
        assert new.plan.part(level, "d") == new.plan.part(level, "e") or level < own


@pytest.mark.parametrize("way", WAYS)
def test_new_tasks_start_from_the_layers_of_the_task_that_they_follow(way: str) -> None:
    plan, options = WAYS[way]
    old = stack(sharing_of(plan, OLD), seed=3)
    followed = options.get("follow", "a")
    specs = {**{task: HEADS["a"] for task in OLD}, **{task: HEADS["a"] for task in NEW}}
    old = stack(sharing_of(plan, OLD), seed=3, specs=specs)
    new = extended(old, grow(old.sharing, NEW, ExtendOptions.model_validate(options)), specs).eval()
    new.head("d").load_state_dict(old.head(followed).state_dict())
    found = new(batch_of({followed: [0, 1, 4]}))[followed]
    chunks = batch_of({followed: [0, 1, 4]})
    moved = [{"d": chunk.tasks[followed]} for chunk in chunks.chunks]
    asked = replace(
        chunks, chunks=tuple(replace(one, tasks=tasks) for one, tasks in zip(chunks.chunks, moved, strict=True))
    )
    torch.testing.assert_close(new(asked)["d"], found, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_only_what_new_tasks_alone_use_trains(way: str) -> None:
    plan, options = WAYS[way]
    old = stack(sharing_of(plan, OLD), seed=3)
    new = extended(old, grow(old.sharing, NEW, ExtendOptions.model_validate(options)), SPECS)
    train_only(new, NEW)
    new(batch_of(READS[3]))["d"].sum().backward()
    moving = {name for name, one in new.named_parameters() if one.requires_grad}
    assert {name for name, one in new.named_parameters() if one.grad is not None} <= moving
    given = batch_of({"a": [7], "b": [0, 8], "c": [2]})
    before = new.eval()(given)
    with torch.no_grad():
        for name, one in new.named_parameters():
            if name in moving:
                one.add_(1.0)
    assert all(torch.equal(found, before[task]) for task, found in new(given).items())
    assert {"heads.task-d.out.weight", "heads.task-e.out.weight"} <= moving
