"""Low-rank deltas and adapters: nothing at first, each row its own part's, and only where they belong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from families import LAYERED, original
from polytask.errors import ConfigError
from polytask.model.adapters import ADAPTERS, Adapter, LoraAdapter
from polytask.model.branches import AdapterLayer
from polytask.model.family import FAMILIES, layers_of
from polytask.model.multitask import MultiTaskModel
from polytask.sharing.sharing import PartKind
from stacks import LAYERS, READS, TREES, batch_of, gradients, perturb, stack, total

NAMES = list(ADAPTERS)
DIVIDED: dict[str, Any] = {"strategy": "partial", "shared_layers": 0}


def adapter(name: str, parts: int = 3) -> Adapter:
    torch.manual_seed(1)
    made = ADAPTERS[name](nn.Linear(8, 6), PartKind(name, rank=4, alpha=6.0))  # type: ignore[arg-type]
    made.grow(parts)
    return made


def at(model: MultiTaskModel) -> dict[str, Adapter]:
    """Return the adapters by their places in the encoder, such as `1.attention.self.query`."""
    return {
        f"{number}.{name}": module
        for number, level in enumerate(model.trunks[0].levels, start=1)
        if isinstance(level, AdapterLayer)
        for name, module in level.layer.named_modules()
        if isinstance(module, Adapter)
    }


def test_every_addition_is_a_kind_that_shares_its_layer() -> None:
    assert len(ADAPTERS) == 2
    assert all(PartKind(name).shares_layer for name in ADAPTERS)  # type: ignore[arg-type]


def test_lora_is_pefts_lora() -> None:
    peft = pytest.importorskip("peft", reason="PEFT is an oracle only, and is not installed", exc_type=ImportError)
    ours = adapter("lora", parts=1)
    assert isinstance(ours, LoraAdapter)
    perturb(ours, 2)
    theirs = peft.inject_adapter_in_model(
        peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"]), nn.Sequential(nn.Linear(8, 6))
    )
    down, up = ours.parts[0].children()
    theirs[0].base_layer.load_state_dict(ours.base.state_dict())
    theirs[0].lora_A["default"].load_state_dict(down.state_dict())
    theirs[0].lora_B["default"].load_state_dict(up.state_dict())
    ours.sections = ((0, 5),)
    states = torch.randn(5, 7, 8)
    torch.testing.assert_close(ours(states), theirs(states), atol=1e-6, rtol=0)
    first = [parameter.grad for parameter in _differentiated(ours, states).parameters()]
    second = {name: parameter.grad for name, parameter in _differentiated(theirs, states).named_parameters()}
    assert second["0.lora_A.default.weight"] is not None
    for gradient in first[2:]:
        torch.testing.assert_close(gradient, second[f"0.lora_{'A' if gradient.shape[0] == 4 else 'B'}.default.weight"])


def _differentiated(module: nn.Module, states: torch.Tensor) -> nn.Module:
    module(states).square().sum().backward()
    return module


@pytest.mark.parametrize("name", NAMES)
def test_a_new_addition_adds_nothing(name: str) -> None:
    made = adapter(name)
    made.sections = ((2, 1), (0, 3))
    states = torch.randn(4, 7, 8)
    assert torch.equal(made(states), made.base(states))


@pytest.mark.parametrize("name", NAMES)
def test_each_section_gets_its_own_parts_addition(name: str) -> None:
    made = adapter(name)
    perturb(made, 3)
    states = torch.randn(4, 7, 8)
    made.sections = ((2, 1), (0, 3))
    mixed = made(states)
    for place, rows in ((2, slice(0, 1)), (0, slice(1, 4))):
        made.sections = ((place, rows.stop - rows.start),)
        torch.testing.assert_close(mixed[rows], made(states[rows]))
        assert not torch.allclose(mixed[rows], made.base(states[rows]), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_a_mixed_batch_equals_a_pass_for_each_task(name: str, family: str) -> None:
    model = stack(TREES["branches"] | {"kind": name}, family, seed=4)
    with torch.inference_mode():
        mixed = model(batch_of(*READS))
        for task, outputs in mixed.items():
            alone = model(batch_of(*({task: reads[task]} for reads in READS if task in reads)))[task]
            torch.testing.assert_close(outputs, alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_base_trains_additions_and_heads_only(name: str) -> None:
    model = stack(DIVIDED | {"kind": name, "base": "frozen"}, seed=5).train()
    for checkpointing in (False, True):
        model.checkpointing(checkpointing)
        found = gradients(model, total(model(batch_of(*READS))))
        for parameter, gradient in found.items():
            trains = parameter.startswith("heads.") or ".parts." in parameter
            assert gradient.any() == trains == dict(model.named_parameters())[parameter].requires_grad, parameter


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_below_the_lowest_divided_layer_is_not_frozen(name: str) -> None:
    model = stack(TREES["shared_layers"] | {"kind": name, "base": "frozen"})
    (trunk,) = model.trunks
    assert all(parameter.requires_grad for parameter in trunk.trunk_parameters())
    frozen = [
        {parameter.requires_grad for parameter in level.base_parameters()}
        for level in trunk.levels
        if isinstance(level, AdapterLayer)
    ]
    assert frozen == [{True}, {False}, {False}]
    model.follow(model.plan.split(1, ["a"]))
    assert not any(parameter.requires_grad for parameter in trunk.trunk_parameters())
    model.follow(model.plan.merge(1, ["a"], ["b", "c", "d"]))
    assert all(parameter.requires_grad for parameter in trunk.trunk_parameters())


@pytest.mark.parametrize("family", LAYERED)
def test_lora_adds_to_every_linear_module_and_houlsby_to_the_end_of_each_half(family: str) -> None:
    layers = layers_of(original(family), FAMILIES[family])
    linear = {name for name, module in layers.named_modules() if type(module) is nn.Linear}
    positional = {name for name in linear if name.rpartition(".")[2] in FAMILIES[family].positional}
    lora, adapter = (at(stack(DIVIDED | {"kind": name}, family)) for name in ("lora", "adapter"))
    assert len(linear) >= 6 * LAYERS or family == "modernbert"
    assert len(lora) == len(linear - positional)
    assert len(adapter) == 2 * LAYERS
    assert adapter.keys() <= lora.keys()


def test_targets_are_named_by_their_own_name_or_more_of_their_path() -> None:
    def places(*targets: str) -> set[str]:
        found = at(stack(DIVIDED | {"kind": "lora", "targets": targets}))
        return {name.removeprefix("1.") for name in found if name.startswith("1.")}

    assert places("query", "value") == {"attention.self.query", "attention.self.value"}
    assert places("dense") == {"attention.output.dense", "intermediate.dense", "output.dense"}
    assert places("attention.output.dense") == {"attention.output.dense"}
    assert places("dense", "output.dense", "query") == places("dense") | {"attention.self.query"}


def test_a_target_that_matches_nothing_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        stack(DIVIDED | {"kind": "adapter", "targets": ["qurey"]})
    assert str(caught.value) == (
        "sharing.targets: 'qurey' matches no linear module; accepted: dense, key, query, value; did you mean 'query'?"
    )


@pytest.mark.parametrize("share_att_key", [True, False])
def test_debertas_projections_of_positions_get_no_addition(share_att_key: bool) -> None:
    found = at(stack(DIVIDED | {"kind": "lora"}, "deberta-v2", share_att_key=share_att_key))
    assert {name.rpartition(".")[2] for name in found} == {"value_proj", "dense"}
    with pytest.raises(ConfigError, match="'key_proj' matches no linear module; accepted: dense, value_proj"):
        stack(DIVIDED | {"kind": "lora", "targets": ["key_proj"]}, "deberta-v2", share_att_key=share_att_key)


def test_rank_and_alpha_are_those_of_the_configuration() -> None:
    model = stack(DIVIDED | {"kind": "lora", "rank": 3, "alpha": 6.0, "targets": ["query"]})
    for made in at(model).values():
        down, up = made.parts[0].children()
        assert down.weight.shape == (3, 32)
        assert up.weight.shape == (32, 3)
        perturb(made, 6)
        made.sections = ((1, 2),)
        states = torch.randn(2, 5, 32)
        down, up = made.parts[1].children()
        delta = 2.0 * (up.weight @ down.weight)
        torch.testing.assert_close(made(states) - made.base(states), states @ delta.T, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_to_ask_for_a_size_draws_no_random_numbers(name: str) -> None:
    model = stack(TREES["shared_layers"] | {"kind": name})
    before = torch.get_rng_state()
    model.size_under(model.plan)
    assert torch.equal(torch.get_rng_state(), before)
