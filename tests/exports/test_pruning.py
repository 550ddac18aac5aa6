"""A model with fewer tasks answers the tasks that stay exactly as it did, under everything that tasks can share."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from polytask.model.growth import extended
from polytask.model.parameters import count_parameters
from polytask.model.pruning import pruned
from polytask.model.shared_layer import size
from polytask.sharing.growth import ExtendOptions, grow
from polytask.sharing.sharing import Sharing
from stacks import HEADS, KINDS, LAYERS, MIXTURES, TREES, batch_of, stack

SHARINGS: dict[str, dict[str, Any]] = {
    **TREES,
    **{f"{kind}-{name}": {**TREES[name], "kind": kind} for kind in KINDS[1:] for name in ("branches", "independent")},
    **MIXTURES,
    "ple-top": {"strategy": "ple", "from_layer": LAYERS, "shared_experts": 1, "task_experts": 1},
    "ple-own": {"strategy": "ple", "from_layer": 2, "shared_experts": 0, "task_experts": 1},
    "shared-heads": {"strategy": "partial", "shared_layers": 1, "share_heads": [["b", "d"]]},
}
# A head is of the first task of its group.
SHARED = {"shared-heads": {**HEADS, "d": HEADS["b"]}}
KEPT = (("a",), ("d",), ("b", "c"), ("a", "b", "d"), ("a", "b", "c", "d"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kept", KEPT, ids="".join)
@pytest.mark.parametrize("name", SHARINGS)
def test_tasks_that_stay_answer_as_before(name: str, kept: tuple[str, ...]) -> None:
    model = stack(SHARINGS[name], seed=3)
    fewer = pruned(model, kept, {task: SHARED.get(name, HEADS)[task] for task in kept})
    # The same rows for every task: then the batch has the same composition with fewer tasks.
    given = batch_of({task: [0, 1, 2, 3] for task in kept}, {task: [4, 5] for task in kept})
    with torch.no_grad():
        before, after = model(given), fewer(given)
    assert before.keys() == after.keys() == set(kept)
    for task in kept:
        assert torch.equal(before[task], after[task]), task
    assert fewer.plan.tasks == tuple(task for task in model.plan.tasks if task in kept)
    assert Sharing.from_json(fewer.sharing.to_json()) == fewer.sharing
    counted = count_parameters(fewer)
    assert counted.total == size(fewer) <= size(model)


@pytest.mark.parametrize(
    ("name", "kept", "gone"),
    [
        ("global", "ad", ("heads.task-b", "heads.task-c")),
        ("independent", "a", ("encoders.1", "heads.task-b")),
        ("shared_layers", "a", ("layer.1.parts.1",)),
        ("lora-branches", "cd", ("layer.1.layer.attention.self.query.parts.1",)),
        ("mmoe", "ab", ("gates.task-c",)),
        ("ple", "ab", ("layer.2.own.task-c",)),
        ("ple-top", "ab", ("own.task-c",)),
    ],
)
def test_what_only_the_others_used_is_gone(name: str, kept: str, gone: tuple[str, ...]) -> None:
    model = stack(SHARINGS[name], seed=3)
    fewer = pruned(model, kept, {task: HEADS[task] for task in kept})
    for part in gone:
        assert any(part in key for key in model.state_dict()), part
        assert not any(part in key for key in fewer.state_dict()), part
    assert size(fewer) < size(model)


def test_pruning_twice_is_pruning_once() -> None:
    for name in ("adapter-branches", "ple", "cross_stitch"):
        model = stack(SHARINGS[name], seed=3)
        once = pruned(model, ("c",), {"c": HEADS["c"]})
        between = pruned(model, ("b", "c"), {"b": HEADS["b"], "c": HEADS["c"]})
        twice = pruned(between, ("c",), {"c": HEADS["c"]})
        assert once.sharing == twice.sharing
        assert all(torch.equal(once.state_dict()[key], value) for key, value in twice.state_dict().items())


@pytest.mark.parametrize("name", ["adapter-branches", "lora-branches", "shared_layers"])
@pytest.mark.parametrize("options", [{}, {"shared_layers": 1}, {"shared_layers": 2}])
def test_a_pruned_model_can_grow_again(name: str, options: dict[str, Any]) -> None:
    fewer = pruned(stack(SHARINGS[name], seed=3), ("c",), {"c": HEADS["c"]})
    growth = grow(fewer.sharing, ["d"], ExtendOptions.model_validate(options))
    more = extended(fewer, growth, {"c": HEADS["c"], "d": HEADS["d"]}).eval()
    given = batch_of({"c": [0, 1, 2]})
    with torch.no_grad():
        assert torch.equal(fewer(given)["c"], more(given)["c"])
    assert more.plan == growth.plan
