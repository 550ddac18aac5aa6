"""One head for several tasks, and every weight stored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters
from stacks import KINDS, MIXTURES, READS, TREES, batch_of, gradients, stack, total

SHARED = (("a", "c"), ("b", "d"))
TOGETHER = {name: TREES[name] | {"share_heads": SHARED} for name in ("global", "branches", "independent")}
EVERY = (
    {f"branches-{kind}": TREES["branches"] | {"kind": kind} for kind in KINDS}
    | {f"layers-{kind}": TREES["layers"] | {"kind": kind} for kind in ("copy", "lora")}
    | MIXTURES
    | TOGETHER
)
EACH = pytest.mark.parametrize("options", TOGETHER.values(), ids=TOGETHER)


def size_of(model: MultiTaskModel, task: str) -> int:
    return sum(parameter.numel() for parameter in model.head(task).parameters())


@EACH
def test_tasks_that_share_a_head_have_one_module(options: dict[str, Any]) -> None:
    model = stack(options)
    assert model.head("c") is model.head("a")
    assert model.head("d") is model.head("b")
    assert list(model.heads) == ["task-a", "task-b"]
    assert {name.split(".")[1] for name in model.state_dict() if name.startswith("heads.")} == {"task-a", "task-b"}
    alone = {name: value for name, value in options.items() if name != "share_heads"}
    apart = stack(alone)
    saved = size_of(apart, "c") + size_of(apart, "d")
    assert count_parameters(model).total == count_parameters(apart).total - saved


@EACH
def test_gradient_of_a_shared_head_is_the_sum_over_its_tasks(options: dict[str, Any]) -> None:
    model = stack(options, seed=1)
    rows = batch_of(*READS)
    mixed = gradients(model, total(model(rows)))
    apart = [gradients(model, model(rows)[task].square().sum() / 100) for task in "abcd"]
    for name in mixed:
        if name.startswith("heads."):
            torch.testing.assert_close(mixed[name], sum(one[name] for one in apart), atol=1e-6, rtol=1e-5)
            assert [bool(one[name].any()) for one in apart] == [name.startswith(f"heads.task-{t}") for t in "abab"]


@EACH
def test_a_shared_head_is_counted_once_and_as_shared(options: dict[str, Any]) -> None:
    model = stack(options)
    heads = sum(parameter.numel() for parameter in model.heads.parameters())
    encoders = sum(parameter.numel() for parameter in model.encoders.parameters())
    count = count_parameters(model)
    assert count.total == encoders + heads == model.size_under(model.plan)
    if options["strategy"] == "global":
        assert set(count.own.values()) == {0}
        assert count.shared["c"] == encoders + size_of(model, "a")
    if options["strategy"] == "independent":
        assert count.shared == {"a": size_of(model, "a"), "b": size_of(model, "b")} | {
            "c": size_of(model, "a"), "d": size_of(model, "b"),
        }  # fmt: skip


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_every_weight_is_stored_once_and_comes_back(options: dict[str, Any], tmp_path: Path) -> None:
    model = stack(options, seed=2)
    state = model.state_dict()
    places = [value.untyped_storage().data_ptr() for value in state.values()]
    assert len(set(places)) == len(places)
    assert {name for name, _ in model.named_parameters()} <= state.keys()
    save_file(state, tmp_path / "model.safetensors")
    other = stack(options)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    rows = batch_of(*READS)
    with torch.inference_mode():
        expected = model(rows)
        for task, outputs in other(rows).items():
            assert torch.equal(outputs, expected[task])
