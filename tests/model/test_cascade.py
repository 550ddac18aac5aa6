"""The cascade: a head reads other heads' outputs on its own task's rows, and nobody else notices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polytask.model.branches import CopiedLayer
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import count_parameters, parameters_by_tasks
from polytask.terms import Activation, HeadSpec, ReadOutputs
from stacks import HEADS, MIXTURES, READS, TREES, batch_of, gradients, length_of, require_near, stack, total

# What each task reads; a and c have an output a text, b and d one a word.
GRAPHS: dict[str, dict[str, list[str]]] = {
    "row to row": {"c": ["a"]},
    "row to word": {"b": ["a"]},
    "word to word": {"d": ["b"]},
    "chain of rows and words": {"c": ["a"], "b": ["c"], "d": ["b"]},
    "chain against the order of the file": {"b": ["d"], "d": ["c"]},
    "several": {"b": ["a", "c"], "d": ["a", "b"]},
}
SHARINGS: dict[str, dict[str, Any]] = {
    "global": TREES["global"],
    "branches": TREES["branches"],
    "branches-lora": TREES["branches"] | {"kind": "lora"},
    "two trunks": TREES["layers"],
    "independent": TREES["independent"],
    "ple": MIXTURES["ple"],
    "shared heads": TREES["branches"] | {"share_heads": (("b", "d"),)},
}
NOT_SHARED = {name: options for name, options in SHARINGS.items() if name != "shared heads"}
# Not ple: below its top, it computes the streams of all tasks on all rows, also of those that are absent.
UNTOUCHED = NOT_SHARED | MIXTURES | {"adapter": TREES["branches"] | {"kind": "adapter"}}
del UNTOUCHED["ple"]
CHAIN = GRAPHS["chain of rows and words"]
EACH_GRAPH = pytest.mark.parametrize("reads", GRAPHS.values(), ids=GRAPHS)
EACH_SHARING = pytest.mark.parametrize("options", NOT_SHARED.values(), ids=NOT_SHARED)
FORMS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "softmax": lambda outputs: outputs.exp() / outputs.exp().sum(-1, keepdim=True),
    "sigmoid": lambda outputs: 1 / (1 + (-outputs).exp()),
    "identity": lambda outputs: outputs,
}


def specs_of(
    reads: Mapping[str, Sequence[str]], detach: bool = True, activation: Activation = "softmax"
) -> dict[str, HeadSpec]:
    return {
        task: replace(
            spec, reads=tuple(ReadOutputs(name, HEADS[name].size, activation, detach) for name in reads.get(task, ()))
        )
        for task, spec in HEADS.items()
    }


def cascade(
    options: Mapping[str, Any], reads: Mapping[str, Sequence[str]], seed: int = 1, **spec: Any
) -> MultiTaskModel:
    return stack(options, seed=seed, specs=specs_of(reads, **spec))


class ByHand(nn.Module):
    """The same encoders under heads that return what their output layers see, and these layers."""

    def __init__(self, model: MultiTaskModel, options: Mapping[str, Any], specs: Mapping[str, HeadSpec]) -> None:
        super().__init__()
        self.specs = specs
        self.plain = stack(options)
        self.plain.encoders.load_state_dict(model.encoders.state_dict())
        self.out = nn.ModuleDict({task: copy.deepcopy(model.head(task).out) for task in specs})
        for name, head in model.heads.items():
            self.plain.heads[name] = copy.deepcopy(head)
            self.plain.heads[name].out = nn.Identity()

    def forward(self, task: str, reads: Sequence[Mapping[str, Sequence[int]]]) -> Tensor:
        """Return a task's outputs for rows by their numbers: what it reads is computed for these rows alone."""
        numbers = [found[task] for found in reads if task in found]
        seen = [self.plain(batch_of(*({task: rows} for rows in numbers)))[task]]
        for reading in self.specs[task].reads:
            given = FORMS[reading.activation](self(reading.task, [{reading.task: rows} for rows in numbers]))
            given = given.detach() if reading.detach else given
            if self.specs[task].level == "word" and self.specs[reading.task].level == "row":
                lengths = [length_of(number) for rows in numbers for number in sorted(rows)]
                given = given.repeat_interleave(torch.tensor(lengths), dim=0)
            seen.append(given)
        return self.out[task](torch.cat(seen, dim=-1))

    def gradient(self, name: str) -> Tensor:
        """Return the gradient of the parameter that has this name in the model."""
        parts = name.split(".")
        key = f"out.{parts[1].removeprefix('task-')}.{parts[3]}" if parts[2] == "out" else f"plain.{name}"
        parameter = self.get_parameter(key)
        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.sampled(3)
@pytest.mark.parametrize("options", SHARINGS.values(), ids=SHARINGS)
@EACH_GRAPH
def test_a_head_is_given_what_the_others_say_of_its_rows(options: dict[str, Any], reads: dict[str, list[str]]) -> None:
    specs = specs_of(reads)
    if "share_heads" in options:
        specs["d"] = specs["b"] = specs_of({"b": ["a"]})["b"]
    model = stack(options, seed=1, specs=specs)
    by_hand = ByHand(model, options, specs)
    with torch.inference_mode():
        found = model(batch_of(*READS))
        assert list(found) == [task for task in found if any(task in rows for rows in READS)]
        for task in "abcd":
            torch.testing.assert_close(found[task], by_hand(task, READS), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("activation", FORMS)
def test_outputs_become_what_the_reading_says(activation: Activation) -> None:
    model = cascade(TREES["global"], CHAIN, activation=activation)
    by_hand = ByHand(model, TREES["global"], specs_of(CHAIN, activation=activation))
    with torch.inference_mode():
        for task, outputs in model(batch_of(*READS)).items():
            torch.testing.assert_close(outputs, by_hand(task, READS), atol=1e-6, rtol=1e-5)


def test_what_is_read_makes_a_difference() -> None:
    model = cascade(TREES["global"], {"c": ["a"]})
    by_hand = ByHand(model, TREES["global"], specs_of({"c": ["a"]}))
    by_hand.out["a"].weight.data *= 3.0
    with torch.inference_mode():
        assert (model(batch_of(*READS))["c"] - by_hand("c", READS)).abs().max() > 1e-3


@pytest.mark.sampled(3)
@EACH_SHARING
@EACH_GRAPH
def test_readers_change_nothing_for_those_that_they_read(options: dict[str, Any], reads: dict[str, list[str]]) -> None:
    model = cascade(options, reads)
    with torch.inference_mode():
        together = model(batch_of(*READS))
        for task in "abcd":
            alone = model(batch_of(*({task: rows[task]} for rows in READS if task in rows)))
            assert list(alone) == [task]
            torch.testing.assert_close(together[task], alone[task], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("detach", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("options", SHARINGS.values(), ids=SHARINGS)
def test_gradients_are_those_of_the_computation_by_hand(options: dict[str, Any], detach: bool) -> None:
    specs = specs_of(CHAIN, detach)
    if "share_heads" in options:
        specs["d"] = specs["b"] = specs_of({"b": ["c"]}, detach)["b"]
    model = stack(options, seed=2, specs=specs)
    for task in "abcd":
        by_hand = ByHand(model, options, specs)
        (by_hand(task, READS).square().sum() / 100).backward()
        found = gradients(model, model(batch_of(*READS))[task].square().sum() / 100)
        for name, gradient in found.items():
            if "share_heads" not in options or not name.startswith("heads.task-b"):
                torch.testing.assert_close(gradient, by_hand.gradient(name), atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("options", [SHARINGS["branches"], SHARINGS["independent"]])
def test_a_detached_reading_sends_no_gradient(options: dict[str, Any], detach: bool) -> None:
    model = cascade(options, {"c": ["a"]}, detach=detach)
    part = model.plan.part(3, "a")
    assert "c" not in part
    trunk = next(encoder for encoder in model.trunks if "a" in encoder.tasks)
    own = [*model.head("a").parameters(), *trunk.levels[2].own(part)]
    model(batch_of(*READS))["c"].sum().backward()
    reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in own]
    assert reached == [not detach] * len(own)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("options", UNTOUCHED.values(), ids=UNTOUCHED)
def test_what_is_read_is_out_of_the_optimizers_sight_while_a_detached_reader_trains_alone(
    options: dict[str, Any], again: bool
) -> None:
    model = cascade(options, CHAIN).train()
    model.checkpointing(again)
    users = {parameter: tasks for parameters, tasks in parameters_by_tasks(model) for parameter in parameters}
    model(batch_of({"d": [0, 1]}, {"d": [2]}))["d"].square().sum().backward()
    for name, parameter in model.named_parameters():
        # A gradient of zeros would let the optimizer decay what another task has learned.
        assert (parameter.grad is not None) == ("d" in users[parameter]), name


@pytest.mark.sampled(2)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("options", SHARINGS.values(), ids=SHARINGS)
def test_own_and_shared_are_counted_where_gradients_flow(options: dict[str, Any], detach: bool) -> None:
    specs = specs_of(CHAIN, detach)
    if "share_heads" in options:
        specs["d"] = specs["b"] = specs_of({"b": ["c"]}, detach)["b"]
    model = stack(options, seed=3, specs=specs)
    users = {parameter: tasks for parameters, tasks in parameters_by_tasks(model) for parameter in parameters}
    assert set(users) == set(model.parameters())
    for task in "abcd":
        found = gradients(model, model(batch_of(*READS))[task].square().sum())
        for name, parameter in model.named_parameters():
            assert found[name].any() == (task in users[parameter]), (task, name)


def test_a_path_that_a_reader_trains_is_no_longer_its_tasks_own() -> None:
    apart, joined = (
        count_parameters(cascade(TREES["independent"], {"c": ["a"]}, detach=detach)) for detach in (True, False)
    )
    assert not any(apart.shared.values())
    assert joined.own == apart.own | {"a": 0}
    assert joined.shared == {"a": apart.own["a"], "b": 0, "c": apart.own["a"], "d": 0}
    assert joined.total == apart.total


def tokens_in(states: torch.Tensor) -> int:
    """Return the number of tokens of states without padding, of shape (tokens, 1, width) or (1, tokens, width)."""
    assert 1 in states.shape[:2]
    return states.shape[0] * states.shape[1]


@pytest.mark.parametrize("options", [TREES["global"], TREES["branches"], TREES["layers"], TREES["independent"]])
def test_each_part_runs_once_on_the_rows_of_its_tasks_and_their_readers(options: dict[str, Any]) -> None:
    model = cascade(options, CHAIN)
    seen: dict[tuple[int, frozenset[str]], list[int]] = {}
    for trunk in model.trunks:
        for number, level in enumerate(trunk.levels, start=1):
            assert isinstance(level, CopiedLayer)
            for part, layer in zip(level.partition, level.parts, strict=True):
                layer.register_forward_pre_hook(
                    lambda module, inputs, key=(number, part): seen.setdefault(key, []).append(tokens_in(inputs[0]))
                )
    with torch.inference_mode():
        model(batch_of(*READS))
    readers = {"a": "acbd", "c": "cbd", "b": "bd", "d": "d"}
    for number in range(1, model.plan.layers + 1):
        for part in model.plan.levels[number]:
            wanted = {reader for task in part for reader in readers[task]}
            rows = [{row for task in wanted for row in found.get(task, ())} for found in READS]
            assert seen[number, part] == [sum(map(length_of, found)) for found in rows if found]


@EACH_SHARING
def test_embeddings_looked_up_apart_are_those_of_all_rows_that_are_read(options: dict[str, Any]) -> None:
    model = cascade(options, CHAIN)
    rows = batch_of({"d": [1, 6]}, {"a": [7], "d": [3, 9]})
    calls: list[int] = []
    for trunk in model.trunks:
        trunk.model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        words, ids = model.embed(rows), model.ids(rows)
        assert words.keys() == ids.keys() == set(model.plan.trunks)
        assert {trunk: len(found) for trunk, found in words.items()} == {t: len(found) for t, found in ids.items()}
        before = len(calls)
        given = model(rows, words)
        assert len(calls) == before
        for task, outputs in model(rows).items():
            assert torch.equal(given[task], outputs)


def test_bf16_passes_read_in_full_precision() -> None:
    model = cascade(TREES["branches"], CHAIN)
    rows = batch_of(*READS)
    with torch.inference_mode():
        exact = model(rows)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(rows)
    require_near(rough, exact)


def test_a_model_without_readings_computes_what_it_did() -> None:
    model = stack(TREES["branches"], seed=4)
    rows = batch_of(*READS)
    assert model.cascade.widen(rows) is rows
    assert not model.cascade.readers
    found = gradients(model, total(model(rows)))
    assert all(gradient.any() for gradient in found.values())
