"""Another plan in the midst of training: splits change nothing, joined parts are averaged, sizes are known before."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polytask.model.branches import AdapterLayer, BranchedLayer, CopiedLayer
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters
from polytask.sharing import PartKind, Plan, Sharing
from polytask.sharing.plan import global_plan
from polytask.sharing.sharing import PartKindName
from stacks import KINDS, LAYERS, READS, TASKS, TREES, batch_of, gradients, length_of, perturb, sharing_of, stack, trees

EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Plan, Plan]:
    """Two plans with the same trunks."""
    before = draw(trees())
    return before, draw(trees(before.trunks))


@st.composite
def splits(draw: st.DrawFn) -> tuple[Plan, Plan]:
    """A plan and what becomes of it when one part is divided."""
    plan = draw(trees())
    places = [(level, part) for level in range(1, LAYERS + 1) for part in plan.levels[level] if len(part) > 1]
    if not places:
        plan, places = global_plan(TASKS, LAYERS), [(2, frozenset(TASKS))]
    level, part = draw(st.sampled_from(places))
    group = draw(st.sets(st.sampled_from(sorted(part)), min_size=1, max_size=len(part) - 1))
    return plan, plan.split(level, group)


def built(plan: Plan, kind: PartKindName, seed: int | None = None) -> MultiTaskModel:
    return stack(Sharing(plan, PartKind(kind, rank=2)), seed=seed)


def outputs_of(model: MultiTaskModel) -> dict[str, Tensor]:
    with torch.inference_mode():
        return model(batch_of(*READS))


def own_of(level: BranchedLayer, part: frozenset[str]) -> list[nn.Parameter]:
    """Return the parameters that are one part's alone."""
    place = level.partition.index(part)
    if isinstance(level, CopiedLayer):
        return list(level.parts[place].parameters())
    assert isinstance(level, AdapterLayer)
    return [parameter for adapter in level.adapters for parameter in adapter.parameters_of(place)]


def weights_by_part(model: MultiTaskModel) -> list[dict[frozenset[str], list[nn.Parameter]]]:
    """Return each layer's parts with their own parameters."""
    return [
        {
            part: own_of(level, part)
            for trunk in model.trunks
            for level in [trunk.levels[number]]
            for part in level.partition
        }
        for number in range(LAYERS)
    ]


@settings(max_examples=15)
@given(plans=splits(), kind=st.sampled_from(KINDS))
def test_a_split_changes_no_output_by_a_single_bit(plans: tuple[Plan, Plan], kind: PartKindName) -> None:
    before, after = plans
    model = built(before, kind, seed=1)
    # Of fewer than 12 tokens, the last bit of a matrix product may depend on their number.
    numbers = [number for number in range(29) if length_of(number) >= 12]
    rows = batch_of(*({task: [numbers[row] for row in found] for task, found in reads.items()} for reads in READS))
    with torch.inference_mode():
        expected = model(rows)
        model.follow(after)
        found = model(rows)
    assert model.plan == after
    for task, outputs in found.items():
        assert torch.equal(outputs, expected[task])


@EACH_KIND
def test_joining_what_was_split_restores_the_model(kind: PartKindName) -> None:
    model = stack(TREES["branches"] | {"kind": kind}, seed=2)
    plan, expected = model.plan, outputs_of(model)
    names = {name: parameter.shape for name, parameter in model.named_parameters()}
    model.follow(plan.split(1, ["a"]))
    assert {name: parameter.shape for name, parameter in model.named_parameters()} != names
    model.follow(plan)
    assert model.plan == plan
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == names
    for task, outputs in outputs_of(model).items():
        torch.testing.assert_close(outputs, expected[task], atol=1e-6, rtol=0)


@settings(max_examples=25)
@given(plans=pairs(), kind=st.sampled_from(KINDS))
def test_a_new_part_is_the_mean_of_the_parts_that_its_tasks_come_from(
    plans: tuple[Plan, Plan], kind: PartKindName
) -> None:
    assert_means(*plans, kind)


@EACH_KIND
def test_parts_that_are_joined_are_averaged_and_the_others_kept(kind: PartKindName) -> None:
    before = sharing_of(TREES["branches"]).plan
    assert_means(before, before.merge(3, ["a"], ["b"]), kind)
    assert_means(before, global_plan(TASKS, LAYERS), kind)


def assert_means(before: Plan, after: Plan, kind: PartKindName) -> None:
    model = built(before, kind, seed=3)
    old = weights_by_part(model)
    values = {id(weights): weights.detach().clone() for level in old for part in level.values() for weights in part}
    shared = {name: value.clone() for name, value in model.state_dict().items() if name.startswith("heads.")}
    origins = model.follow(after)
    present = set(model.parameters())
    assert set(origins) <= present
    for number, level in enumerate(weights_by_part(model)):
        for part, weights in level.items():
            sources = [found for other, found in old[number].items() if other & part and found]
            for place, parameter in enumerate(weights if sources else ()):
                mean = torch.stack([values[id(source[place])] for source in sources]).mean(0)
                torch.testing.assert_close(parameter.detach(), mean, atol=1e-7, rtol=0)
                kept = len(sources) == 1 and parameter is sources[0][place]
                assert kept != (parameter in origins)
                if not kept:
                    assert [id(one) for one in origins[parameter]] == [id(source[place]) for source in sources]
    for name, value in shared.items():
        assert torch.equal(model.state_dict()[name], value)


@settings(max_examples=15)
@given(plans=pairs(), kind=st.sampled_from(KINDS))
def test_a_followed_plan_takes_the_weights_of_a_model_built_with_it(
    plans: tuple[Plan, Plan], kind: PartKindName
) -> None:
    before, after = plans
    model, other = built(before, kind), built(after, kind, seed=4)
    model.follow(after)
    assert model.sharing == other.sharing
    model.load_state_dict(other.state_dict())
    expected = outputs_of(other)
    for task, outputs in outputs_of(model).items():
        assert torch.equal(outputs, expected[task])


@settings(max_examples=15)
@given(plans=pairs(), kind=st.sampled_from(KINDS))
def test_the_size_under_a_plan_is_known_before_it_is_followed(plans: tuple[Plan, Plan], kind: PartKindName) -> None:
    before, after = plans
    model = built(before, kind)
    expected = model.size_under(after)
    assert model.size_under(before) == sum(parameter.numel() for parameter in model.parameters())
    model.follow(after)
    assert expected == sum(parameter.numel() for parameter in model.parameters())
    assert expected == count_parameters(model).total == model.size_under(after)


def test_the_size_of_the_model_that_shares_everything_is_known_under_every_plan() -> None:
    single = count_parameters(stack(TREES["global"])).total
    for options in TREES.values():
        assert stack(options).size_of_single() == single


@EACH_KIND
def test_parts_go_their_own_ways_after_a_split(kind: PartKindName) -> None:
    model = stack({"strategy": "partial", "shared_layers": 3, "kind": kind})
    expected = outputs_of(model)
    model.follow(model.plan.split(2, ["c"]))
    for level in weights_by_part(model)[1:]:
        perturb(nn.ParameterList(level[frozenset("c")]), 5)
    found = outputs_of(model)
    assert not torch.allclose(found.pop("c"), expected["c"], atol=1e-3)
    for task, outputs in found.items():
        assert torch.equal(outputs, expected[task])


def test_a_split_copy_learns_and_its_switches_are_those_of_the_first() -> None:
    model = stack(TREES["shared_layers"]).train()
    model.checkpointing(True)
    model.follow(model.plan.split(1, ["a", "b"]))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    perturb(model, 5)
    found = gradients(model, model(batch_of(*READS))["a"].sum())
    first = {parameter: name for name, parameter in model.named_parameters()}
    for part, reached in ((frozenset("ab"), True), (frozenset("cd"), False)):
        names = [first[parameter] for parameter in weights_by_part(model)[0][part]]
        assert {bool(found[name].any()) for name in names} == {reached}
