"""A pass: each part runs once on its own rows, in any precision, compiled, and with activations made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polytask.model.branches import AdapterLayer, CopiedLayer
from polytask.model.cpu_kernels import Bf16Embedding, Bf16LayerNorm, Bf16Linear
from polytask.model.multitask import MultiTaskModel
from polytask.sharing import PartKind, Plan, Sharing
from polytask.sharing.sharing import PartKindName
from stacks import (
    MIXTURES,
    READS,
    TREES,
    batch,
    batch_of,
    chunk,
    gradients,
    length_of,
    require_near,
    row_reads,
    stack,
    total,
    trees,
)

Reads = Sequence[Mapping[str, Sequence[int]]]
# Trunk, layer, part (None: the layer that all parts stand on), and the rows in their order.
Run = tuple[int, int, int | None, tuple[int, ...]]

BRANCHED = {f"branches-{kind}": TREES["branches"] | {"kind": kind} for kind in ("copy", "lora", "adapter")}
EVERY = {"global": TREES["global"], "independent": TREES["independent"]} | BRANCHED | MIXTURES
WIDE = 36  # wider than all rows: there is a mask in every pass
NUMBER_OF = {length_of(number): number for number in range(20)}


def watch(model: MultiTaskModel) -> list[Run]:
    """Note every call of every part, with its rows: they are known by the lengths in their masks."""
    runs: list[Run] = []

    def noting(*place: Any) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            mask = next(
                value for value in (*args[1:], *options.values()) if isinstance(value, Tensor) and value.ndim == 4
            )
            lengths = [int(row[0, 0].sum()) for row in mask]
            assert args[0].shape[:2] == (sum(lengths), 1)
            runs.append((*place, tuple(NUMBER_OF[length] for length in lengths)))

        return note

    for number, trunk in enumerate(model.trunks):
        for layer, level in enumerate(trunk.levels, start=1):
            if isinstance(level, CopiedLayer):
                for place, part in enumerate(level.parts):
                    part.register_forward_pre_hook(noting(number, layer, place), with_kwargs=True)
            elif isinstance(level, AdapterLayer):
                level.layer.register_forward_pre_hook(noting(number, layer, None), with_kwargs=True)
    return runs


def expected_runs(model: MultiTaskModel, reads: Reads) -> list[Run]:
    """Return what a pass needs, from the plan alone."""
    runs: list[Run] = []
    for number, trunk in enumerate(model.plan.trunks):
        plan = model.plan.within(trunk)
        for layer in range(1, plan.layers + 1):
            for found in reads:
                rows = [
                    tuple(sorted({row for task in part for row in found.get(task, ())})) for part in plan.levels[layer]
                ]
                if model.sharing.kind.shares_layer and any(rows):
                    runs.append((number, layer, None, sum(rows, ())))
                elif not model.sharing.kind.shares_layer:
                    runs += [(number, layer, place, own) for place, own in enumerate(rows) if own]
    return runs


@pytest.mark.parametrize("training", [True, False])
@settings(max_examples=15)
@given(plan=trees(), reads=st.lists(row_reads(), min_size=1, max_size=2), kind=st.sampled_from(("copy", "lora")))
def test_each_part_runs_once_on_exactly_the_rows_that_its_tasks_read(
    training: bool, plan: Plan, reads: list[dict[str, list[int]]], kind: PartKindName
) -> None:
    model = stack(Sharing(plan, PartKind(kind, rank=2))).train(training)
    runs = watch(model)
    looked_up: list[int] = []
    for trunk in model.trunks:
        words = trunk.model.get_input_embeddings()
        words.register_forward_hook(lambda module, inputs, output: looked_up.append(inputs[0].numel()))
    rows = batch(*(chunk(found, width=WIDE) for found in reads))
    with torch.inference_mode(not training):
        outputs = model(rows)
    if training:
        total(outputs).backward()
    assert sorted(runs, key=str) == sorted(expected_runs(model, reads), key=str)
    at_work = [trunk for trunk in plan.trunks if any(trunk & found.keys() for found in reads)]
    assert len(looked_up) == len(at_work)
    if len(plan.trunks) == 1:
        assert sum(looked_up) == rows.padded


@pytest.mark.parametrize("kind", ["copy", "soft", "lora", "adapter"])
def test_a_part_without_rows_does_not_run(kind: str) -> None:
    model = stack(TREES["branches"] | {"kind": kind})
    runs = watch(model)
    with torch.inference_mode():
        model(batch(chunk({"a": [0, 1], "b": [1]}, width=WIDE)))
    shared = kind in ("lora", "adapter")
    top = [(0, 3, None, (0, 1, 1))] if shared else [(0, 3, 0, (0, 1)), (0, 3, 1, (1,))]
    below = [(0, layer, None if shared else 0, (0, 1)) for layer in (1, 2)]
    assert runs == below + top


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_bf16_passes_stay_close_to_full_precision(options: dict[str, Any]) -> None:
    model = stack(options, seed=1)
    rows = batch_of(*READS)
    exact = model(rows)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(rows)
    require_near(rough, exact)
    near, far = (gradients(model, total(outputs)) for outputs in (exact, rough))
    for name, gradient in near.items():
        assert (far[name] - gradient).norm() <= 0.1 * gradient.norm() + 0.02, name


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_parameters_rounded_once_answer_close_to_full_precision_and_follow_a_change(options: dict[str, Any]) -> None:
    model = stack(options, seed=1)
    rows = batch_of(*READS)
    seen: set[torch.dtype] = set()
    for module in model.encoders.modules():
        if isinstance(module, Bf16Linear | Bf16LayerNorm | Bf16Embedding):
            module.register_forward_hook(lambda _module, _given, found: seen.add(found.dtype))
    changes = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    for change in range(3):
        if change == 1:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.2)
        elif change == 2:
            total(model(rows)).backward()
            changes.step()
        with torch.inference_mode():
            exact = model(rows)
            seen.clear()
            with torch.autocast("cpu", torch.bfloat16):
                require_near(model(rows), exact)
        assert seen == {torch.bfloat16}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activations_made_again_give_the_same_outputs_and_gradients(options: dict[str, Any], dropout: float) -> None:
    more = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = stack(options, seed=2, **more).train()
    rows = batch_of(*READS)
    calls: list[int] = []
    for name, module in model.named_modules():
        if name.endswith("attention.self"):
            module.register_forward_hook(lambda *_: calls.append(1))
    found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
    for on in (False, True):
        model.checkpointing(on)
        torch.manual_seed(11)
        outputs = model(rows)
        found.append((outputs, gradients(model, total(outputs))))
        calls.append(0)
    first = calls.index(0)
    assert calls == [1] * first + [0] + [1] * 2 * first + [0]
    for kept, again in zip(*found, strict=True):
        for name, value in kept.items():
            assert torch.equal(again[name], value), name


def test_activations_are_made_again_in_training_only() -> None:
    model = stack(TREES["branches"]).eval()
    model.checkpointing(True)
    calls: list[int] = []
    part = model.trunks[0].levels[2].parts[0]  # type: ignore[attr-defined]
    part.register_forward_pre_hook(lambda *_: calls.append(1))
    total(model(batch_of(*READS))).backward()
    assert len(calls) == 2  # in the two chunks with rows of task a


class Counting:
    """A compiler that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


COMPILED = {"lora": BRANCHED["branches-lora"], "mmoe": MIXTURES["mmoe"]}


@pytest.mark.slow
@pytest.mark.parametrize("options", COMPILED.values(), ids=COMPILED)
def test_a_compiled_model_is_one_graph_where_all_tasks_read_all_rows(options: dict[str, Any]) -> None:
    model = stack(options, "distilbert", seed=3)
    compiler = Counting()
    compiled = torch.compile(model, backend=compiler)
    rows = batch_of({task: [0, 1, 2] for task in "abcd"}, type_ids=False)
    with torch.no_grad():
        assert_close(compiled(rows), model(rows))
    assert compiler.graphs == 1


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_outputs_where_tasks_read_different_rows() -> None:
    model = stack(TREES["shared_layers"], "distilbert", seed=3)
    compiler = Counting()
    compiled = torch.compile(model, backend=compiler)
    rows = batch_of(READS[0], type_ids=False)
    with torch.no_grad():
        assert_close(compiled(rows), model(rows))
    assert compiler.graphs


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for task, outputs in expected.items():
        torch.testing.assert_close(found[task], outputs, atol=1e-6, rtol=0)
