"""The update that a balancer makes of a model: what is shared is weighed, and what a task owns is not touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from methods import METHODS, Method
from tiny_steps import ALL, TASKS, WEIGHTS, Job, batches_of, build, differentiator, mean_loss, taken
from torch import Tensor

from polytask.assemble import Assembly
from polytask.balance import Balancer
from polytask.data.batch import Batch
from polytask.training.gradient import Differentiator, StepGradient

TOP = {"measure": "top"}
# One or two of every shape, whose weights are not 1 from the first step on.
OF_EACH_SHAPE = [
    Method("stch"),
    Method("imtl_l"),
    Method("nash_mtl"),
    Method("imtl_g"),
    Method("cagrad", TOP),
    Method("nash_mtl", TOP),
    Method("graddrop"),
    Method("trimmed_mean"),
]
SHARING_SOMETHING = [name for name in ALL if name != "independent"]


@dataclass
class Explicit:
    """Every task's gradient of its own weighted mean loss, by autograd, where it has one; and what follows of it."""

    assembly: Assembly
    batches: Sequence[Batch]
    tasks: Sequence[str] = TASKS

    def __post_init__(self) -> None:
        names, parameters = zip(*self.assembly.model.named_parameters(), strict=True)
        self.losses: dict[str, float] = {}
        self.own: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        for task in self.tasks:
            mean = mean_loss(self.assembly, task, self.batches)
            self.losses[task] = float(mean)
            found = torch.autograd.grad(WEIGHTS[task] * mean, parameters, allow_unused=True)
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    self.own[name][task] = gradient
        self.shared = [name for name in names if len(self.own[name]) > 1]
        tie = self.assembly.model.tie()
        self.tie = dict.fromkeys(names) if tie is None else dict(
            zip(names, torch.autograd.grad(tie, parameters, allow_unused=True), strict=True)
        )  # fmt: skip

    def measured(self, top: bool) -> list[str]:
        """Return what is compared of the shared parameters, in the order in which they are: no word embeddings."""
        model = self.assembly.model
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups = [model.top_group()] if top else model.gradient_groups()
        listed = (names[one] for group in groups for found in group.values() for one in found)
        return [name for name in dict.fromkeys(listed) if name in self.shared]

    def weights(self, balancer: Balancer) -> dict[str, float]:
        """Return the weights that a method gives these losses and gradients."""
        gram = np.zeros((len(self.tasks), len(self.tasks)))
        for name in self.measured(balancer.options.top_only):
            for one, first in self.own[name].items():
                for other, second in self.own[name].items():
                    place = self.tasks.index(one), self.tasks.index(other)
                    gram[place] += float((first.double() * second.double()).sum())
        return balancer.weigh(self.losses, gram if balancer.reads_gradients else None)

    def combined(self, balancer: Balancer) -> dict[str, Tensor]:
        """Return what a method makes of all parameters that the same tasks share."""
        sets: dict[tuple[str, ...], list[str]] = {}
        for name in self.measured(top=False):
            sets.setdefault(tuple(self.own[name]), []).append(name)
        found: dict[str, Tensor] = {}
        for tasks, names in sets.items():
            rows = torch.stack([torch.cat([self.own[name][task].flatten() for name in names]) for task in tasks])
            pieces = balancer.combine(rows).split([self.own[name][tasks[0]].numel() for name in names])
            found |= {name: piece.view_as(self.own[name][tasks[0]]) for name, piece in zip(names, pieces, strict=True)}
        return found

    def update(self, balancer: Balancer) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the tasks' weights, and the gradient of every parameter."""
        weights = dict.fromkeys(self.tasks, 1.0)
        combined: Mapping[str, Tensor] = {}
        if balancer.shape == "gradients":
            combined = self.combined(balancer)
        elif balancer.shape != "nothing":
            weights = self.weights(balancer)
        found: dict[str, Tensor] = {}
        for name, parameter in self.assembly.model.named_parameters():
            own = self.own[name]
            summands = [(weights[task] if len(own) > 1 else 1.0) * gradient for task, gradient in own.items()]
            found[name] = combined[name] if name in combined else sum(summands, torch.zeros_like(parameter))
            tie = self.tie[name]
            found[name] = found[name] if tie is None else found[name] + tie
        return weights, found


def ways(found: Differentiator, batches: Sequence[Batch]) -> list[partial[StepGradient]]:
    """Return the ways in which a step of this method may be differentiated."""
    by_task = partial(found.by_task, batches, False)
    whole = partial(found.whole, found.model, batches, False)
    if found.balancer.options.top_only:
        return [partial(found.by_top, batches, False)]
    return [by_task] if found.balancer.reads_gradients else [by_task, whole][: 2 if len(batches) == 1 else 1]


def close(found: Tensor, expected: Tensor, tolerance: float, least: float) -> bool:
    return float((found - expected).norm()) <= tolerance * max(float(expected.norm()), least)


def require_update(method: Method, explicit: Explicit, batches: Sequence[Batch], steps: int = 1) -> None:
    """Require that some steps make the explicit update, in every way."""
    assembly = explicit.assembly
    for way in range(len(ways(differentiator(assembly, balancer=method.build(WEIGHTS)), batches))):
        balancer, twin = method.build(WEIGHTS), method.build(WEIGHTS)
        for _ in range(steps):
            made = ways(differentiator(assembly, balancer=balancer), batches)[way]()
            weights, expected = explicit.update(twin)
            assert made.losses == pytest.approx(explicit.losses, rel=1e-5)
            assert dict(made.weights) == ({} if not made.weights else pytest.approx(weights, rel=1e-4, abs=2e-6))
            assert bool(made.weights) == (balancer.shape in ("losses", "gram"))
            longest = max(float(gradient.norm()) for gradient in expected.values())
            for name, gradient in taken(assembly).items():
                tolerance = 2e-6 if len(explicit.own[name]) < 2 else 2e-5
                assert close(gradient, expected[name], tolerance, 1e-2 * longest), (name, way)


@pytest.mark.parametrize("shared", [True, False], ids=["rows of several tasks", "rows of one task"])
@pytest.mark.parametrize("name", SHARING_SOMETHING)
def test_what_is_shared_gets_the_weighed_gradients_and_what_is_owned_its_own(job: Job, name: str, shared: bool) -> None:
    assembly = build(job, name, shared)
    layouts = [batches_of(assembly, 1), batches_of(assembly, 3)]
    explicit = Explicit(assembly, layouts[0])
    assert explicit.shared
    assert any(len(found) == 1 for found in explicit.own.values())
    for method in OF_EACH_SHAPE:
        require_update(method, explicit, layouts[0])
        if not method.options.top_only:
            require_update(method, explicit, layouts[1])
    if shared:
        require_update(Method("imtl_g"), explicit, batches_of(assembly, 2, apart=True))
        require_update(Method("cagrad", TOP), explicit, batches_of(assembly, 1, apart=True))


@pytest.mark.parametrize("name", ["partial", "lora"])
def test_every_method_leaves_heads_and_own_parts_alone(job: Job, name: str) -> None:
    assembly = build(job, name)
    batches = batches_of(assembly)
    explicit = Explicit(assembly, batches)
    for method in METHODS:
        if "primary" in method.values:
            method = replace(method, values={"primary": "topic"})
        require_update(method, explicit, batches, steps=2)
        if method.kind.shape == "gram":
            require_update(replace(method, values={**method.values, **TOP}), explicit, batches, steps=2)
