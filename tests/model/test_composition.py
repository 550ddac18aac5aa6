"""A model that is composed of several answers as each of them did, and has equal parts once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from polytask.model.composition import composed
from polytask.model.growth import extended
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import parameters_by_tasks
from polytask.model.pruning import pruned
from polytask.model.shared_layer import size
from polytask.sharing.growth import ExtendOptions, grow
from polytask.sharing.sharing import Sharing
from stacks import HEADS, MIXTURES, TASKS, TREES, batch_of, perturb, sharing_of, stack

SHARINGS: dict[str, dict[str, Any]] = {
    **TREES,
    **{f"{kind}-branches": {**TREES["branches"], "kind": kind} for kind in ("soft", "lora", "adapter")},
    **MIXTURES,
    "shared-heads": {"strategy": "partial", "shared_layers": 1, "share_heads": [["b", "d"]]},
}
SPECS = {**HEADS, "d": HEADS["b"]}


def source(sharing: Mapping[str, Any], prefix: str, seed: int, family: str = "bert") -> MultiTaskModel:
    """A model whose tasks have a prefix to their names."""
    names = [prefix + task for task in TASKS]
    told = sharing_of({key: value for key, value in _renamed(sharing, prefix).items()}, names)
    return stack(told, family, seed=seed, specs={prefix + task: spec for task, spec in SPECS.items()})


def _renamed(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        return {key: one if key in ("strategy", "kind") else _renamed(one, prefix) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(one, prefix) for one in value]
    return prefix + value if isinstance(value, str) and value in TASKS else value


def heads(*models: MultiTaskModel) -> dict[str, Any]:
    return {task: SPECS[task[-1]] for model in models for task in model.plan.tasks}


def require_same_answers(whole: MultiTaskModel, *models: MultiTaskModel) -> None:
    order = [task for model in models for task in model.plan.tasks]
    with torch.no_grad():
        given = batch_of({task: [0, 1, 2, 3] for task in order}, {task: [4, 5] for task in order})
        after = whole(given)
        assert sorted(after) == sorted(order)
        for model in models:
            own = batch_of({task: [0, 1, 2, 3] for task in model.plan.tasks}, {t: [4, 5] for t in model.plan.tasks})
            for task, before in model(own).items():
                assert torch.equal(before, after[task]), task


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(name, other, marks=pytest.mark.slow if other != "branches" else ())
        for name in SHARINGS
        for other in ("branches", "lora-branches", "ple")
    ],
)
def test_every_task_answers_as_its_source(one: str, other: str) -> None:
    models = source(SHARINGS[one], "x", 1), source(SHARINGS[other], "y", 2)
    whole = composed(models, heads(*models))
    require_same_answers(whole, *models)
    assert size(whole) == sum(map(size, models))
    assert Sharing.from_json(whole.sharing.to_json()) == whole.sharing
    assert all(task in whole.sharing.picture() for task in whole.plan.tasks)
    # A part of it is the part of its source.
    kept = ("xa", "yc", "yd")
    require_same_answers(
        pruned(whole, kept, {task: SPECS[task[-1]] for task in kept}),
        pruned(models[0], kept[:1], {"xa": SPECS["a"]}),
        pruned(models[1], kept[1:], {task: SPECS[task[-1]] for task in kept[1:]}),
    )


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert", "distilbert"])
def test_in_other_families(family: str) -> None:
    models = [source(SHARINGS["branches"], prefix, seed, family) for prefix, seed in (("x", 1), ("y", 2), ("z", 3))]
    require_same_answers(composed(models, heads(*models)), *models)


@pytest.mark.parametrize("name", [*TREES, "soft-branches", "lora-branches", "adapter-branches"])
def test_equal_parts_are_there_once(name: str) -> None:
    models = source(SHARINGS[name], "x", 1), source(SHARINGS[name], "y", 1)
    whole = composed(models, heads(*models))
    require_same_answers(whole, *models)
    own = sum(size(whole.head(task)) for task in models[1].plan.tasks)
    assert size(whole) == size(models[0]) + own


@pytest.mark.parametrize("kind", ["copy", "lora", "adapter"])
def test_two_extensions_of_a_model_stand_on_one_trunk(kind: str) -> None:
    base = stack({"strategy": "global"}, seed=1, specs=HEADS)
    base = pruned(base, ("a", "b"), {task: HEADS[task] for task in "ab"})
    made: list[MultiTaskModel] = []
    for task in "cd":
        growth = grow(base.sharing, [task], ExtendOptions.model_validate({"kind": kind, "shared_layers": 1}))
        grown = extended(base, growth, {name: HEADS[name] for name in ("a", "b", task)})
        new = {id(value) for parameters, users in parameters_by_tasks(grown) if users == {task} for value in parameters}
        generator = torch.Generator().manual_seed(ord(task))
        for value in grown.parameters():
            if id(value) in new:
                value.data += 0.05 * torch.randn(value.shape, generator=generator)
        made.append(grown.eval())
    models = made[0], pruned(made[1], ("d",), {"d": HEADS["d"]})
    whole = composed(models, HEADS)
    require_same_answers(whole, *models)
    assert len(whole.trunks) == 1
    assert whole.plan.levels[1] == (frozenset("abcd"),)
    assert size(whole) < sum(map(size, models)) - size(base) / 3
    perturb(whole, 3)  # nothing is shared with the sources
    require_same_answers(composed(models, HEADS), *models)
