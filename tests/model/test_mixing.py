"""Mixtures of towers: what the papers' formulas say, for each row on its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import LAYERED, original
from polytask.data.batch import Batch
from polytask.model.family import layers_of
from polytask.model.forward_context import first_of
from polytask.model.mixing import MIXERS
from polytask.model.mixing.mixer import ExpertGate
from polytask.model.mixing.ple import Ple
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters, parameters_by_tasks, rate_factors
from stacks import (
    MIXTURES,
    READS,
    TASKS,
    batch,
    batch_of,
    chunk,
    gradients,
    heads_on,
    length_of,
    perturb,
    sharing_of,
    stack,
    states_of,
    takes_types,
    total,
)

EACH = pytest.mark.parametrize("options", MIXTURES.values(), ids=MIXTURES)
FROM_THE_BOTTOM = {
    "mmoe": {"strategy": "mmoe", "from_layer": 1, "experts": 3},
    "cross_stitch": {"strategy": "cross_stitch", "from_layer": 1},
    "ple": {"strategy": "ple", "from_layer": 1, "shared_experts": 1, "task_experts": 1},
    "ple without task experts": {"strategy": "ple", "from_layer": 1, "shared_experts": 2, "task_experts": 0},
    "ple without shared experts": {"strategy": "ple", "from_layer": 1, "shared_experts": 0, "task_experts": 2},
}
ALL = MIXTURES | {f"{name} from the bottom": options for name, options in FROM_THE_BOTTOM.items()}


def slots_of(model: MultiTaskModel) -> list[Any]:
    (trunk,) = model.trunks
    return list(layers_of(trunk.model, trunk.family))


def tower(model: MultiTaskModel, chosen: Callable[[Any], nn.Module]) -> nn.Module:
    """Build a plain encoder from a model's trunk and one tower above it."""
    plain = original("bert")
    plain.pooler = None  # type: ignore[assignment]
    own = {name: value for name, value in model.trunks[0].model.state_dict().items() if ".layer." not in name}
    plain.load_state_dict(own, strict=False)
    for layer, replaced in zip(plain.encoder.layer, slots_of(model), strict=True):  # type: ignore[union-attr,arg-type]
        layer.load_state_dict((replaced.parts[0] if hasattr(replaced, "parts") else chosen(replaced)).state_dict())
    return plain.eval()


def embedded(model: MultiTaskModel, rows: Batch) -> Tensor:
    """Return what the layers of a tiny bert are given for a batch of one chunk."""
    (one,) = rows.chunks
    return model.trunks[0].model.embeddings(input_ids=one.ids, token_type_ids=one.type_ids)


def test_all_methods_are_tested() -> None:
    assert set(MIXTURES) == set(MIXERS)
    assert len(MIXERS) == 3


@EACH
@pytest.mark.parametrize("family", [*LAYERED[:8], *sorted({"gte", "t5gemma", "gemma3_text"}.intersection(LAYERED))])
def test_equal_towers_are_the_original_model_whatever_the_gates(family: str, options: dict[str, Any]) -> None:
    model = stack(options, family)
    rows = batch_of(*READS, type_ids=takes_types(family))
    for module in model.modules():
        if isinstance(module, ExpertGate):
            nn.init.normal_(module.out.weight, std=3.0)
    with torch.inference_mode():
        states = states_of(original(family), rows)
        for task, outputs in model(rows).items():
            torch.testing.assert_close(outputs, heads_on(model, task, states, rows), atol=1e-6, rtol=0)


@pytest.mark.parametrize("from_layer", [1, 2, 3])
def test_a_gate_of_one_expert_is_the_identity(from_layer: int) -> None:
    model = stack({"strategy": "mmoe", "from_layer": from_layer, "experts": 1}, seed=1)
    rows = batch_of(*READS)
    with torch.inference_mode():
        states = states_of(tower(model, lambda slot: slot.experts[0]), rows)
        for task, outputs in model(rows).items():
            torch.testing.assert_close(outputs, heads_on(model, task, states, rows), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("from_layer", [1, 2, 3])
def test_identity_stitches_leave_each_task_its_own_tower(from_layer: int) -> None:
    model = stack({"strategy": "cross_stitch", "from_layer": from_layer, "own_weight": 1.0})
    for slot in slots_of(model)[from_layer - 1 :]:
        perturb(slot.towers, from_layer)
    rows = batch_of(*READS)
    with torch.inference_mode():
        found = model(rows)
        for place, task in enumerate(TASKS):
            states = states_of(tower(model, lambda slot, place=place: slot.towers[place]), rows)
            torch.testing.assert_close(found[task], heads_on(model, task, states, rows), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_gates_are_positive_and_sum_to_one(options: dict[str, Any], precision: torch.dtype) -> None:
    model = stack(options, seed=2)
    gates: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ExpertGate):
            module.register_forward_hook(lambda module, inputs, output: gates.append(output))
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        model(batch_of(*READS))
    assert bool(gates) == (options["strategy"] != "cross_stitch")
    for gate in gates:
        assert gate.dtype == torch.float32
        assert gate.min() > 0
        torch.testing.assert_close(gate.sum(-1), torch.ones(gate.shape[:-1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_neither_padding_nor_other_rows_nor_other_tasks_change_a_rows_output(options: dict[str, Any]) -> None:
    model = stack(options, seed=3)
    with torch.inference_mode():
        for reads in READS:
            mixed = model(batch(chunk(reads, width=38)))
            for task, numbers in reads.items():
                alone = [model(batch(chunk({task: [number]})))[task] for number in numbers]
                torch.testing.assert_close(mixed[task], torch.cat(alone), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["ple", "ple without task experts", "ple without shared experts"])
def test_ple_is_the_papers_formula(name: str) -> None:
    model = stack(FROM_THE_BOTTOM[name], seed=4)
    reads = {"a": [1, 30], "b": [30], "d": [1]}  # of one length: no mask
    assert length_of(1) == length_of(30)
    rows = batch(chunk(reads))
    with torch.inference_mode():
        found = model(rows)
        streams = dict.fromkeys((*TASKS, "shared"), embedded(model, rows))
        for level in slots_of(model):
            streams = extracted(level, streams)
        for task, outputs in found.items():
            expected = heads_on(model, task, [streams[task]], rows)
            torch.testing.assert_close(outputs, expected, atol=2e-6, rtol=1e-5)


def extracted(level: Ple, streams: dict[str, Tensor]) -> dict[str, Tensor]:
    """Equations 3 to 6 of the paper: each stream's gate chooses among what experts make of their own streams."""

    def run(experts: Any, stream: str) -> list[Tensor]:
        return [first_of(expert(streams[stream])) for expert in experts]

    def chosen(gate: Any, stream: str, experts: list[Tensor]) -> Tensor:
        weights = torch.softmax(streams[stream] @ gate.out.weight.T, dim=-1)
        return torch.einsum("rte,ertw->rtw", weights, torch.stack(experts))

    own = {task: run(level.own[f"task-{task}"], task) for task in TASKS}
    shared = run(level.shared, "shared")
    found = {task: chosen(level.gates[f"task-{task}"], task, own[task] + shared) for task in TASKS}
    if level.shared_gate is not None:
        found["shared"] = chosen(level.shared_gate, "shared", [*chain(*own.values()), *shared])
    return found


def test_mmoe_is_the_papers_formula() -> None:
    model = stack({"strategy": "mmoe", "from_layer": 1, "experts": 3}, seed=5)
    rows = batch(chunk({"a": [1, 30], "c": [30]}))
    slots = slots_of(model)
    with torch.inference_mode():
        found = model(rows)
        first = embedded(model, rows)
        experts: list[Tensor] = []
        for index in range(3):
            states = first
            for slot in slots:
                states = first_of(slot.experts[index](states))
            experts.append(states)
        for task, outputs in found.items():
            gate = torch.softmax(first @ slots[0].gates[f"task-{task}"].out.weight.T, dim=-1)
            mixed = torch.einsum("rte,ertw->rtw", gate, torch.stack(experts))
            torch.testing.assert_close(outputs, heads_on(model, task, [mixed], rows), atol=2e-6, rtol=1e-5)


def test_cross_stitch_is_the_papers_formula() -> None:
    model = stack({"strategy": "cross_stitch", "from_layer": 1}, seed=6)
    rows = batch(chunk({"a": [1, 30], "c": [30]}))
    with torch.inference_mode():
        found = model(rows)
        states = torch.stack([embedded(model, rows)] * len(TASKS))
        for slot in slots_of(model):
            made = torch.stack([first_of(one(given)) for one, given in zip(slot.towers, states, strict=True)])
            states = torch.einsum("ts,srnw->trnw", slot.unit, made)
        for task, outputs in found.items():
            expected = heads_on(model, task, [states[TASKS.index(task)]], rows)
            torch.testing.assert_close(outputs, expected, atol=2e-6, rtol=1e-5)


def test_random_gates_break_the_symmetry_of_equal_experts() -> None:
    for options in (FROM_THE_BOTTOM["mmoe"], FROM_THE_BOTTOM["cross_stitch"], MIXTURES["ple"] | {"shared_experts": 2}):
        model = stack(options)
        gradients(model, total(model(batch_of(*READS))))
        for slot in slots_of(model):
            for experts in (getattr(slot, name, None) for name in ("experts", "towers", "shared")):
                found = [torch.cat([weights.grad.flatten() for weights in one.parameters()]) for one in experts or ()]
                for one, other in pairwise(found):
                    assert (one - other).norm() > 1e-3 * one.norm()


def test_a_task_expert_runs_on_all_rows_below_the_top_and_on_its_tasks_rows_there() -> None:
    model = stack(FROM_THE_BOTTOM["ple"])
    runs: dict[tuple[int, str], int] = {}
    for level, slot in enumerate(slots_of(model), start=1):
        for task in TASKS:
            for expert in slot.own[f"task-{task}"]:
                expert.register_forward_pre_hook(
                    lambda module, inputs, key=(level, task): runs.update({key: runs.get(key, 0) + len(inputs[0])})
                )
    with torch.inference_mode():
        model(batch(chunk({"a": [0, 1, 2], "b": [1], "c": [3, 4]})))
    all_rows = sum(map(length_of, range(5)))
    assert runs == {(level, task): all_rows for level in (1, 2) for task in TASKS} | {
        (3, "a"): sum(map(length_of, range(3))), (3, "b"): length_of(1), (3, "c"): length_of(3) + length_of(4),
    }  # fmt: skip


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_own_and_shared_are_counted_where_gradients_flow(options: dict[str, Any]) -> None:
    model = stack(options, seed=6)
    users = {parameter: tasks for parameters, tasks in parameters_by_tasks(model) for parameter in parameters}
    assert set(users) == set(model.parameters())
    rows = batch_of(*READS)
    own, shared = dict.fromkeys(TASKS, 0), dict.fromkeys(TASKS, 0)
    reached: dict[str, set[str]] = {name: set() for name, _ in model.named_parameters()}
    for task in TASKS:
        for name, gradient in gradients(model, model(rows)[task].square().sum()).items():
            if gradient.any():
                reached[name].add(task)
    for name, parameter in model.named_parameters():
        assert reached[name] == set(users[parameter]), name
        for task in reached[name]:
            (own if len(reached[name]) == 1 else shared)[task] += parameter.numel()
    found = count_parameters(model)
    assert (found.own, found.shared) == (own, shared)
    assert found.total == sum(parameter.numel() for parameter in model.parameters())


def test_units_of_stitches_learn_at_a_rate_of_their_own() -> None:
    model = stack(MIXTURES["cross_stitch"] | {"rate": 30.0})
    assert {tuple(unit.shape): factor for unit, factor in rate_factors(model).items()} == {(4, 4): 30.0}
    assert len(rate_factors(model)) == 2
    assert rate_factors(stack(MIXTURES["ple"])) == {}


@EACH
def test_a_single_task_can_be_mixed(options: dict[str, Any]) -> None:
    model = stack(sharing_of(options, tasks=("a",)))
    rows = batch_of({"a": [0, 3]})
    with torch.inference_mode():
        expected = heads_on(model, "a", states_of(original("bert"), rows), rows)
        torch.testing.assert_close(model(rows)["a"], expected, atol=1e-6, rtol=0)
