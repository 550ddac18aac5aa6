"""The branching stack computes what the tasks' own models would, and sends each gradient where it belongs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from families import LAYERED, original
from polytask.data.batch import Batch
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import parameters_by_tasks
from polytask.sharing import PartKind, Plan, Sharing
from polytask.sharing.sharing import PartKindName
from stacks import (
    KINDS,
    MIXTURES,
    READS,
    TREES,
    batch,
    batch_of,
    chunk,
    gradients,
    heads_on,
    path,
    row_reads,
    stack,
    states_of,
    takes_types,
    total,
    trees,
)

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in LAYERED} | {
    "deberta-v2 convolved": ("deberta-v2", {"conv_kernel_size": 3}),
    "gemma3_text both ways": ("gemma3_text", {"use_bidirectional_attention": True}),
}
FORMS = ("copy", "lora", "adapter")  # soft parts are copies in every pass (test_soft.py)
ALL_TREES = [pytest.param({"strategy": "global"}, id="global")] + [
    pytest.param(options | {"kind": kind}, id=f"{tree}-{kind}")
    for tree, options in TREES.items()
    for kind in FORMS
    if tree != "global"
]
# Families that differ most in what their loop gives a layer: masks, position biases, rotary positions, windows.
UNLIKE = ("bert", "deberta-v2", "modernbert", "gemma3_text")
EACH_FORM = [pytest.param(TREES["branches"] | {"kind": kind}, id=kind) for kind in FORMS]


@cache
def plain_states(family: str) -> list[Tensor]:
    name, more = FAMILIES[family]
    with torch.inference_mode():
        return states_of(original(name, **more), batch_of(*READS, type_ids=takes_types(name)))


OTHER_TREES = [tree for tree in ALL_TREES if "adapter" not in str(tree.id) and "branches" not in str(tree.id)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("family", "options"),
    [pytest.param(family, *form.values, id=f"{family}-{form.id}") for family in FAMILIES for form in EACH_FORM]
    + [pytest.param(family, *tree.values, id=f"{family}-{tree.id}") for family in UNLIKE for tree in OTHER_TREES],
)
def test_outputs_are_the_original_models_while_all_parts_are_equal(family: str, options: dict[str, Any]) -> None:
    name, more = FAMILIES[family]
    model = stack(options, name, **more)
    rows = batch_of(*READS, type_ids=takes_types(name))
    with torch.inference_mode():
        found = model(rows)
        assert set(found) == set("abcd")
        for task, outputs in found.items():
            expected = heads_on(model, task, plain_states(family), rows)
            torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", EACH_FORM)
def test_outputs_are_those_of_each_tasks_own_path_once_parts_differ(family: str, options: dict[str, Any]) -> None:
    name, more = FAMILIES[family]
    model = stack(options, name, seed=3, **more)
    assert_paths(model, batch_of(*READS, type_ids=takes_types(name)), name, **more)


@pytest.mark.parametrize("options", ALL_TREES)
def test_outputs_are_those_of_each_tasks_own_path_under_every_tree(options: dict[str, Any]) -> None:
    assert_paths(stack(options, seed=4), batch_of(*READS), "bert")


@settings(max_examples=25)
@given(plan=trees(), reads=st.lists(row_reads(), min_size=1, max_size=2), kind=st.sampled_from(KINDS))
def test_outputs_are_those_of_each_tasks_own_path_for_any_plan_and_rows(
    plan: Plan, reads: list[dict[str, list[int]]], kind: PartKindName
) -> None:
    assert_paths(stack(Sharing(plan, PartKind(kind, rank=2)), seed=5), batch_of(*reads), "bert")


def assert_paths(model: MultiTaskModel, rows: Batch, family: str, **more: Any) -> None:
    with torch.inference_mode():
        found = model(rows)
        for task, outputs in found.items():
            states = states_of(path(model, task, original(family, **more)), rows)
            torch.testing.assert_close(outputs, heads_on(model, task, states, rows), atol=2e-6, rtol=1e-5)


def test_the_oracle_tells_paths_apart() -> None:
    for kind in KINDS:
        model = stack(TREES["branches"] | {"kind": kind}, seed=3)
        rows = batch_of({"a": [1]})
        a, b, c, d = (states_of(path(model, task, original("bert")), rows)[0] for task in "abcd")
        assert min((a - b).norm(), (a - c).norm(), (b - c).norm()) > 0.1
        assert torch.equal(c, d)


@pytest.mark.parametrize("options", ALL_TREES)
def test_gradient_of_a_task_reaches_its_own_parts_only(options: dict[str, Any]) -> None:
    model = stack(options, seed=6)
    rows = batch_of(*READS)
    users = {parameter: tasks for parameters, tasks in parameters_by_tasks(model) for parameter in parameters}
    assert set(users) == set(model.parameters())
    for task in "abcd":
        found = gradients(model, model(rows)[task].square().sum())
        for name, parameter in model.named_parameters():
            assert found[name].any() == (task in users[parameter]), name


@pytest.mark.parametrize("options", ALL_TREES)
def test_gradient_of_what_is_shared_is_the_sum_over_its_tasks(options: dict[str, Any]) -> None:
    model = stack(options, seed=7)
    rows = batch_of(*READS)
    mixed = gradients(model, total(model(rows)))
    added = {name: torch.zeros_like(gradient) for name, gradient in mixed.items()}
    for task in "abcd":
        alone = batch_of(*({task: reads[task]} for reads in READS if task in reads))
        for name, gradient in gradients(model, total(model(alone))).items():
            added[name] += gradient
    for name, gradient in mixed.items():
        torch.testing.assert_close(gradient, added[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("options", [*EACH_FORM, *(pytest.param(MIXTURES[name], id=name) for name in MIXTURES)])
def test_rows_that_nobody_reads_change_nothing(options: dict[str, Any]) -> None:
    model = stack(options, seed=8)
    reads = {"a": [0, 2], "b": [8], "c": [2, 4], "d": [4]}
    with torch.inference_mode():
        bare = model(batch(chunk(reads, width=34)))
        among = model(batch(chunk(reads, width=34, rows=(1, 3, 6))))
    for task, outputs in bare.items():
        torch.testing.assert_close(among[task], outputs, atol=1e-6, rtol=0)
