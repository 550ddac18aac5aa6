"""Gradients task by task: the same update as in one piece, and the inner products that the naive way gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_steps import (
    ALL,
    ONES,
    SHARINGS,
    TASKS,
    WEIGHTS,
    Job,
    batches_of,
    build,
    differentiator,
    mean_loss,
    taken,
)
from torch import Tensor

from polytask.assembly import Assembly
from polytask.data.batch import Batch
from polytask.model.branches import AdapterLayer
from polytask.model.parameters import compared_parameters
from polytask.training.gradient import StepGradient
from polytask.training.requests import NOTHING, PendingRequests

EACH_SHARING = pytest.mark.parametrize("name", SHARINGS)


def measure(
    assembly: Assembly,
    batches: Sequence[Batch],
    pending: PendingRequests = NOTHING,
    weights: Mapping[str, float] = WEIGHTS,
) -> StepGradient:
    assembly.model.zero_grad(set_to_none=True)
    return differentiator(assembly, weights).by_task(batches, pending)


def naive(assembly: Assembly, batches: Sequence[Batch]) -> np.ndarray[Any, Any]:
    """Differentiate each task's mean loss on its own, for each layer, and multiply."""
    model = assembly.model
    gradients: list[list[Tensor]] = []
    for name in assembly.tasks:
        mean = mean_loss(assembly, name, batches)
        trunk = next(encoder for encoder in model.trunks if name in encoder.tasks)
        layers: list[Tensor] = []
        for level in trunk.levels:
            # Of copies a task reaches its own only; below adapters all tasks meet in the layer itself.
            common = not isinstance(level, AdapterLayer)
            chosen = [parameter for key, parameter in level.named_parameters() if common or ".parts." not in key]
            found = torch.autograd.grad(mean, chosen, retain_graph=True, allow_unused=True)
            layers.append(torch.cat([gradient.flatten() for gradient in found if gradient is not None]))
        gradients.append(layers)
    stacked = [torch.stack(layer) for layer in zip(*gradients, strict=True)]
    return torch.stack([layer @ layer.T for layer in stacked]).numpy()


@pytest.mark.parametrize("name", ALL)
def test_task_by_task_leaves_the_gradient_of_the_whole(job: Job, name: str) -> None:
    assembly = build(job, name)
    found = differentiator(assembly)
    for pieces in (1, 3):
        batches = batches_of(assembly, pieces)
        whole = found.whole(assembly.model, batches)
        expected = taken(assembly)
        by_task = found.by_task(batches)
        assert by_task.losses == pytest.approx(dict(whole.losses), abs=1e-6)
        assert set(whole.losses) == set(TASKS)
        for key, gradient in taken(assembly).items():
            torch.testing.assert_close(gradient, expected[key], atol=1e-6, rtol=1e-5, msg=f"{key}, {pieces} pieces")
        assert any(gradient.abs().max() > 1e-3 for gradient in expected.values())


@EACH_SHARING
def test_inner_products_are_those_of_the_naive_way(job: Job, name: str) -> None:
    assembly = build(job, name)
    for pieces in (1, 3):
        batches = batches_of(assembly, pieces)
        gram = measure(assembly, batches).gram
        assert gram is not None
        assert gram.shape == (2, 3, 3)
        assert gram.dtype == np.float64
        np.testing.assert_allclose(gram, naive(assembly, batches), rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(gram, gram.transpose(0, 2, 1))


def test_tasks_of_different_sources_are_measured_alike(job: Job) -> None:
    assembly = build(job, shared=False)
    batches = batches_of(assembly, 2)
    gram = measure(assembly, batches).gram
    np.testing.assert_allclose(gram, naive(assembly, batches), rtol=1e-4, atol=1e-7)


def test_a_step_in_pieces_measures_what_it_does_as_a_whole(job: Job) -> None:
    assembly = build(job)
    one, four = (measure(assembly, batches_of(assembly, pieces)) for pieces in (1, 4))
    np.testing.assert_allclose(four.gram, one.gram, rtol=1e-4, atol=1e-8)
    assert four.losses == pytest.approx(dict(one.losses), rel=1e-5)


def test_inner_products_do_not_depend_on_the_tasks_weights(job: Job) -> None:
    assembly = build(job)
    batches = batches_of(assembly)
    plain = measure(assembly, batches, weights=ONES).gram
    gradient = taken(assembly)
    weighted = measure(assembly, batches, weights=WEIGHTS).gram
    np.testing.assert_allclose(weighted, plain, rtol=1e-4, atol=1e-8)
    assert any(not torch.allclose(found, gradient[key], atol=1e-3) for key, found in taken(assembly).items())


def test_a_task_without_labels_in_the_step_is_not_a_number(job: Job) -> None:
    assembly = build(job)
    for present in (("sentiment", "entities"), ("topic",)):
        found = measure(assembly, batches_of(assembly, tasks=present))
        assert set(found.losses) == set(present)
        assert found.gram is not None
        known = np.isin(assembly.model.plan.tasks, present)
        assert (np.isnan(found.gram) == ~np.logical_and.outer(known, known)).all()


def test_a_step_without_a_single_label_measures_nothing_and_moves_nothing(job: Job) -> None:
    assembly = build(job)
    batch = batches_of(assembly, tasks=("topic", "entities"))[0]
    unknown = {name: torch.full_like(targets, -100) for name, targets in batch.targets.items()}
    found = measure(assembly, [replace(batch, targets=unknown)])
    assert not found.losses
    assert found.gram is not None
    assert np.isnan(found.gram).all()
    assert not any(gradient.any() for gradient in taken(assembly).values())


def test_a_request_to_stop_is_passed_on_by_measured_steps_too(job: Job) -> None:
    assembly = build(job)
    for pending in (PendingRequests(stop=True), PendingRequests(save=True), PendingRequests()):
        assert measure(assembly, batches_of(assembly), pending).pending == pending


def test_word_embeddings_and_heads_are_not_measured_and_still_learn(job: Job) -> None:
    assembly = build(job, "global")
    measured = {id(p) for task in TASKS for layer in compared_parameters(assembly.model, task) for p in layer}
    measure(assembly, batches_of(assembly))
    for name, parameter in assembly.model.named_parameters():
        assert parameter.grad is not None, name
        assert (id(parameter) in measured) == (".layer." in name), name
