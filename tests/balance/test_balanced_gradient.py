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

from polytask.assembly import Assembly
from polytask.balance import Balancer
from polytask.balance.balancer import Floats
from polytask.data.batch import Batch
from polytask.model.parameters import gradient_groups, top_group
from polytask.training.gradient import Differentiator, StepGradient

TOP = {"measure": "top"}
# One or two of every shape, whose weights are not 1 from the first step on.
OF_EACH_SHAPE = [
    Method("stch"),
    Method("rows"),
    Method("nash_mtl"),
    Method("equal_norms"),
    Method("imtl_g", TOP),
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
    # What several tasks train in other steps, though these may lack some of them.
    shared: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        names, parameters = zip(*self.assembly.model.named_parameters(), strict=True)
        self.losses: dict[str, float] = {}
        self.own: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        for task in self.tasks:
            mean = mean_loss(self.assembly, task, self.batches)
            self.losses[task] = float(mean.detach())
            found = torch.autograd.grad(WEIGHTS[task] * mean, parameters, allow_unused=True)
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    self.own[name][task] = gradient
        self.shared |= {name for name in names if len(self.own[name]) > 1}
        tie = self.assembly.model.tie()
        self.tie = dict.fromkeys(names) if tie is None else dict(
            zip(names, torch.autograd.grad(tie, parameters, allow_unused=True), strict=True)
        )  # fmt: skip

    def measured(self, top: bool) -> list[str]:
        """Return what is compared of the shared parameters, in the order in which they are: no word embeddings."""
        model = self.assembly.model
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups = [top_group(model)] if top else gradient_groups(model)
        listed = (names[one] for group in groups for found in group.values() for one in found)
        return [name for name in dict.fromkeys(listed) if len(self.own[name]) > 1]

    def weights(self, balancer: Balancer) -> dict[str, float]:
        """Return the weights that a method gives these losses and gradients."""
        gram = np.zeros((len(self.tasks), len(self.tasks)))
        for name in self.measured(balancer.options.top_only):
            for one, first in self.own[name].items():
                for other, second in self.own[name].items():
                    place = self.tasks.index(one), self.tasks.index(other)
                    gram[place] += float((first.double() * second.double()).sum())
        chunks = [chunk for batch in self.batches for chunk in batch.chunks]
        rows = {task: float(sum(len(set(chunk.tasks[task].rows.tolist())) for chunk in chunks if task in chunk.tasks))
                for task in self.losses}  # fmt: skip
        errors = {task: self.errors(task) for task in self.losses} if balancer.options.reads_errors else None
        return balancer.weigh(self.losses, gram if balancer.reads_gradients else None, rows, errors)

    def errors(self, task: str) -> tuple[Floats, Floats]:
        """Return a task's errors by class, added up, and their counts."""
        sums = [np.zeros(self.assembly.tasks[task].head.size) for _ in range(2)]
        for batch in (batch for batch in self.batches if task in batch.targets):
            found = self.assembly.tasks[task].training_errors(self.assembly.model(batch)[task], batch.targets[task])
            sums = [one + values.detach().double().numpy() for one, values in zip(sums, found, strict=True)]
        return sums[0], sums[1]

    def combined(self, balancer: Balancer) -> dict[str, Tensor]:
        """Return what a method makes of all parameters that the same tasks share."""
        sets: dict[tuple[str, ...], list[str]] = {}
        for name in self.measured(top=False):
            sets.setdefault(tuple(self.own[name]), []).append(name)
        found: dict[str, Tensor] = {}
        for tasks, names in sets.items():
            rows = torch.stack([torch.cat([self.own[name][task].flatten() for name in names]) for task in tasks])
            pieces = balancer.aggregate(rows).split([self.own[name][tasks[0]].numel() for name in names])
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
            summands = [(weights[task] if name in self.shared else 1.0) * gradient for task, gradient in own.items()]
            found[name] = combined[name] if name in combined else sum(summands, torch.zeros_like(parameter))
            tie = self.tie[name]
            found[name] = found[name] if tie is None else found[name] + tie
        return weights, found


def ways(found: Differentiator, batches: Sequence[Batch]) -> list[partial[StepGradient]]:
    """Return the ways in which a step of this method may be differentiated."""
    by_task = partial(found.by_task, batches, statistic=False)
    whole = partial(found.whole, found.model, batches)
    if found.balancer.options.top_only:
        return [partial(found.by_top, batches)]
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
                # What float32 leaves of 1e-6, and of weights that were found from such gradients.
                tolerance, least = (3e-5, 1e-2) if name in explicit.shared else (3e-6, 1e-3)
                assert close(gradient, expected[name], tolerance, least * longest), (name, way, method)


def fitting(method: Method) -> Method:
    """Return a method with options that fit three tasks with these names."""
    return replace(
        method, values={"pcd": {"primary": "topic"}, "krum": {"selected": 2}}.get(method.name, method.values)
    )


@pytest.mark.parametrize("name", SHARING_SOMETHING)
def test_what_is_shared_gets_the_weighed_gradients_and_what_is_owned_its_own(job: Job, name: str) -> None:
    assembly = build(job, name)
    whole = batches_of(assembly)
    explicit = Explicit(assembly, whole)
    assert explicit.shared
    assert any(len(found) == 1 for found in explicit.own.values())
    for method in OF_EACH_SHAPE:
        require_update(method, explicit, whole)
    for method in (Method("stch"), Method("imtl_g")):
        require_update(method, explicit, batches_of(assembly, 3))
    require_update(Method("imtl_g"), explicit, batches_of(assembly, 2, apart=True))


@pytest.mark.parametrize("name", SHARING_SOMETHING)
def test_between_two_comparisons_the_last_weights_are_those_of_one_backward_pass(job: Job, name: str) -> None:
    assembly = build(job, name)
    batches, balancer = batches_of(assembly), Method("nash_mtl").build(WEIGHTS)
    found = differentiator(assembly, balancer=balancer)
    compared = found.by_task(batches, statistic=False)
    gradients = taken(assembly)
    longest = max(float(gradient.norm()) for gradient in gradients.values())
    for pieces in (1, 3):
        kept = found.whole(assembly.model, batches_of(assembly, pieces))
        assert kept.weights == compared.weights
        assert kept.losses == pytest.approx(compared.losses, rel=1e-5)
        for parameter, gradient in taken(assembly).items():
            assert close(gradient, gradients[parameter], 3e-5, 1e-2 * longest), (parameter, pieces)


@pytest.mark.parametrize(
    "name", ["global", *(pytest.param(name, marks=pytest.mark.slow) for name in ("partial", "cascade"))]
)
def test_tasks_with_rows_of_their_own_are_weighed_alike(job: Job, name: str) -> None:
    assembly = build(job, name, shared=False)
    explicit = Explicit(assembly, batches_of(assembly))
    for method in OF_EACH_SHAPE:
        require_update(method, explicit, batches_of(assembly))
    require_update(Method("nash_mtl"), explicit, batches_of(assembly, 3))


@pytest.mark.slow
def test_every_method_leaves_heads_and_own_parts_alone(job: Job) -> None:
    assembly = build(job)
    batches = batches_of(assembly)
    explicit = Explicit(assembly, batches)
    for method in map(fitting, METHODS):
        require_update(method, explicit, batches, steps=2 if method.kind.every_task else 1)
        if method.kind.shape == "gram":
            require_update(replace(method, values={**method.values, **TOP}), explicit, batches)


@pytest.mark.parametrize("tasks", [("sentiment", "entities"), ("sentiment", "topic"), ("topic",)])
def test_a_step_that_lacks_tasks_weighs_those_that_it_has(job: Job, tasks: tuple[str, ...]) -> None:
    assembly = build(job)
    shared = Explicit(assembly, batches_of(assembly)).shared
    batches = batches_of(assembly, tasks=tasks)
    explicit = Explicit(assembly, batches, tasks, shared)
    for method in OF_EACH_SHAPE:
        require_update(method, explicit, batches)


def test_a_step_without_a_single_label_weighs_nothing_and_moves_nothing(job: Job) -> None:
    assembly = build(job)
    (batch,) = batches_of(assembly, tasks=("topic", "entities"))
    unknown = {name: torch.full_like(targets, -100) for name, targets in batch.targets.items()}
    for method in OF_EACH_SHAPE:
        for way in ways(differentiator(assembly, balancer=method.build(WEIGHTS)), [replace(batch, targets=unknown)]):
            made = way()
            assert (made.losses, made.weights) == ({}, {})
            assert not any(gradient.any() for gradient in taken(assembly).values())


def test_frozen_parameters_get_no_gradient(job: Job) -> None:
    """The optimizer would decay them."""
    assembly = build(job, "global")
    assembly.model.freeze(1)
    frozen = [parameter for parameter in assembly.model.parameters() if not parameter.requires_grad]
    trained = "encoders.0.model.encoder.layer.1.parts.0.output.dense.weight"
    assert frozen
    for method in OF_EACH_SHAPE:
        for way in ways(differentiator(assembly, balancer=method.build(WEIGHTS)), batches_of(assembly)):
            way()
            assert all(parameter.grad is None for parameter in frozen)
            assert taken(assembly)[trained].any()


def test_a_policy_measures_the_same_under_every_balancer(job: Job) -> None:
    assembly = build(job)
    batches = batches_of(assembly)
    grams = []
    for method in (Method("sum"), *OF_EACH_SHAPE):
        grams.append(differentiator(assembly, balancer=method.build(WEIGHTS)).by_task(batches).gram)
        taken(assembly)
        np.testing.assert_allclose(grams[-1], grams[0], rtol=1e-6, atol=1e-12)
    assert differentiator(assembly).by_task(batches, statistic=False).gram is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("global", "1.parts.0"), ("own layers", "position_embeddings"), ("mmoe", "0.parts.0")],
)
def test_the_highest_shared_layer_is_the_one_that_is_compared(job: Job, name: str, expected: str) -> None:
    assembly = build(job, name)
    measured = Explicit(assembly, batches_of(assembly)).measured(top=True)
    assert any(expected in found for found in measured)
    assert len({found.rsplit(".layer.", 1)[-1].split(".")[0] for found in measured}) == 1 or name == "own layers"


def test_losses_after_an_update_are_those_of_the_model_as_it_is_then(job: Job) -> None:
    assembly = build(job)
    for batches in (batches_of(assembly), batches_of(assembly, 3)):
        found = differentiator(assembly)
        before = found.losses(batches)
        assert before == pytest.approx(Explicit(assembly, batches).losses, rel=1e-5)
        assert not any(gradient.any() for gradient in taken(assembly).values())
    with torch.no_grad():
        for parameter in assembly.model.head("topic").parameters():
            parameter.mul_(2)
    after = found.losses(batches)
    assert after["topic"] != pytest.approx(before["topic"], rel=1e-3)
    assert after["sentiment"] == before["sentiment"]
