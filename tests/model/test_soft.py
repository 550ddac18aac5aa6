"""Soft sharing: copies under a tie that pulls them together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polytask.model.multitask import MultiTaskModel
from stacks import READS, TREES, batch_of, gradients, stack, total

DIVIDED = {name: options for name, options in TREES.items() if name != "global"}


def parts_by_level(model: MultiTaskModel) -> list[list[list[nn.Parameter]]]:
    """Return for each level of the plan the weights of its parts, wherever they stand."""
    found: list[list[list[nn.Parameter]]] = [[trunk.trunk_parameters() for trunk in model.trunks]]
    for number in range(len(model.trunks[0].levels)):
        levels = [trunk.levels[number] for trunk in model.trunks]
        found.append([list(part.parameters()) for level in levels for part in level.parts])  # type: ignore[attr-defined]
    assert [len(level) for level in found] == [len(level) for level in model.plan.levels]
    return found


def flat(part: list[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in part])


def tie_of(model: MultiTaskModel) -> Tensor:
    tie = model.tie()
    assert tie is not None
    return tie


@pytest.mark.parametrize("options", DIVIDED.values(), ids=DIVIDED)
def test_the_tie_is_strength_times_the_squared_distances_from_the_mean(options: dict[str, Any]) -> None:
    model = stack(options | {"kind": "soft", "strength": 0.3}, seed=1)
    expected = 0.0
    for parts in parts_by_level(model):
        weights = torch.stack([flat(part) for part in parts])
        expected += 0.3 * float((weights - weights.mean(0)).square().sum())
    assert expected > 1.0
    assert float(tie_of(model).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", DIVIDED.values(), ids=DIVIDED)
def test_the_tie_of_equal_copies_is_zero_and_pulls_nowhere(options: dict[str, Any]) -> None:
    model = stack(options | {"kind": "soft", "strength": 0.3})
    tie = tie_of(model)
    assert float(tie.detach()) == pytest.approx(0.0, abs=1e-9)
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients(model, tie).values())


@pytest.mark.parametrize("options", DIVIDED.values(), ids=DIVIDED)
def test_the_tie_pulls_copies_to_their_mean_and_leaves_what_is_shared_alone(options: dict[str, Any]) -> None:
    model = stack(options | {"kind": "soft", "strength": 0.5}, seed=2)
    found = gradients(model, tie_of(model))
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parts in parts_by_level(model):
        mean = torch.stack([flat(part) for part in parts]).mean(0)
        for part in parts:
            pull = torch.cat([found[names[parameter]].flatten() for parameter in part])
            expected = (flat(part) - mean).float() if len(parts) > 1 else torch.zeros_like(pull)
            torch.testing.assert_close(pull, expected, atol=1e-6, rtol=1e-5)  # strength x 2 = 1: one step meets
    assert not any(gradient.any() for name, gradient in found.items() if name.startswith("heads."))


def test_copies_meet_under_the_tie_alone() -> None:
    model = stack(TREES["branches"] | {"kind": "soft", "strength": 0.1}, seed=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    before = float(tie_of(model).detach())
    for _ in range(10):
        optimizer.zero_grad()
        tie_of(model).backward()
        optimizer.step()
    assert float(tie_of(model).detach()) < 1e-3 * before


def test_without_strength_or_copies_there_is_no_tie() -> None:
    assert stack(TREES["branches"] | {"kind": "soft", "strength": 0.0}, seed=4).tie() is None
    assert stack({"strategy": "partial", "shared_layers": 3, "kind": "soft"}, seed=4).tie() is None
    for kind in ("copy", "lora", "adapter"):
        assert stack(TREES["branches"] | {"kind": kind}, seed=4).tie() is None


def test_soft_parts_are_copies_in_every_pass() -> None:
    copies = stack(TREES["branches"], seed=5)
    soft = stack(TREES["branches"] | {"kind": "soft"}, seed=5)
    assert soft.state_dict().keys() == copies.state_dict().keys()
    rows = batch_of(*READS)
    expected = copies(rows)
    for task, outputs in soft(rows).items():
        assert torch.equal(outputs, expected[task])
    ours, theirs = gradients(soft, total(soft(rows))), gradients(copies, total(expected))
    assert all(torch.equal(gradient, theirs[name]) for name, gradient in ours.items())
