"""Every balancer with its options, and made-up steps for it to weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from polytask.balance import BALANCERS, BalanceOptions, Balancer
from polytask.balance.balancer import Floats

TASKS = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Method:
    """A row of BALANCERS with options of its own."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.values.values())])

    @property
    def kind(self) -> type[BalanceOptions]:
        return BALANCERS[self.name]

    @property
    def options(self) -> BalanceOptions:
        return self.kind.model_validate({"method": self.name, **self.values})

    def build(self, tasks: Sequence[str] | Mapping[str, float] = TASKS, seed: int = 1) -> Balancer:
        weights = dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(tasks, 1.0)
        return Balancer(self.options, weights, seed)


METHODS = (
    Method("sum"),
    Method("rows"),
    Method("equal_norms"),
    Method("equal_norms", {"decay": 0.0}),
    Method("uncertainty", {"rate": 0.1}),
    Method("imtl_l", {"rate": 0.1}),
    Method("dwa", {"window": 2}),
    Method("famo"),
    Method("stch", {"mu": 0.7}),
    Method("geometric_mean"),
    Method("random"),
    Method("cosmos", {"reward": 2.0}),
    Method("pbi", {"penalty": 0.3}),
    Method("gradnorm"),
    Method("upgrad"),
    Method("dualproj"),
    Method("mgda"),
    Method("pcgrad"),
    Method("gradvac", {"beta": 0.3}),
    Method("cagrad"),
    Method("nash_mtl"),
    Method("aligned_mtl"),
    Method("aligned_mtl", {"length": "median"}),
    Method("aligned_mtl", {"length": "rmse"}),
    Method("imtl_g"),
    Method("config"),
    Method("fairgrad"),
    Method("fairgrad", {"alpha": 1.0}),
    Method("pcd", {"primary": "c"}),
    Method("krum"),
    Method("krum", {"outliers": 1, "selected": 2}),
    Method("graddrop"),
    Method("trimmed_mean"),
)
WEIGHERS = tuple(method for method in METHODS if method.kind.shape != "gradients")
COMBINERS = tuple(method for method in METHODS if method.kind.shape == "gradients")
# Those that draw random numbers, and so do not know the tasks' order from another.
DRAWING = frozenset({"random", "pcgrad", "gradvac", "graddrop"})


@dataclass(frozen=True)
class Made:
    """A step: the tasks' losses, their gradients as tasks x parameters, and the rows that they have."""

    tasks: tuple[str, ...]
    values: Floats
    jacobian: Floats
    counts: Floats

    @property
    def losses(self) -> dict[str, float]:
        return dict(zip(self.tasks, self.values.tolist(), strict=True))

    @property
    def rows(self) -> dict[str, float]:
        return dict(zip(self.tasks, self.counts.tolist(), strict=True))

    @property
    def gram(self) -> Floats:
        return self.jacobian @ self.jacobian.T

    @property
    def norms(self) -> dict[str, float]:
        return dict(zip(self.tasks, np.linalg.norm(self.jacobian, axis=1).tolist(), strict=True))

    def only(self, tasks: Sequence[str]) -> Made:
        """Return what other tasks, or these in another order, would see."""
        places = [self.tasks.index(task) for task in tasks]
        return Made(tuple(tasks), self.values[places], self.jacobian[places], self.counts[places])


def made(number: int, tasks: Sequence[str] = TASKS, size: int = 12, common: float = 0.0) -> Made:
    """Make a step up: losses between 0.2 and 2, gradients of different lengths, of which many oppose each other.

    Args:
        common: length of what all gradients have in common.
    """
    drawn = np.random.default_rng(number)
    jacobian = drawn.normal(size=(len(tasks), size)) + common * drawn.normal(size=size)
    lengths = drawn.uniform(0.3, 3.0, size=(len(tasks), 1))
    values = drawn.uniform(0.2, 2.0, size=len(tasks))
    return Made(tuple(tasks), values, lengths * jacobian, drawn.integers(1, 30, size=len(tasks)).astype(float))


def alike(number: int, tasks: Sequence[str] = TASKS) -> Made:
    """Make a step up in which all tasks have one loss, one gradient and as many rows."""
    step = made(number, tasks)
    gradients = np.tile(step.jacobian[0], (len(tasks), 1))
    return Made(step.tasks, np.full_like(step.values, step.values[0]), gradients, np.ones_like(step.counts))


def weigh(balancer: Balancer, step: Made) -> dict[str, float]:
    """Weigh a step, and take in what its losses are afterwards."""
    found = balancer.weigh(step.losses, step.gram if balancer.reads_gradients else None, step.rows)
    balancer.after({task: 0.9 * loss + 0.01 for task, loss in step.losses.items()})
    return found


def update(balancer: Balancer, step: Made) -> Floats:
    """Return the gradient of the parameters of a step, from weights or from the method itself."""
    if balancer.shape == "gradients":
        return balancer.combine(torch.from_numpy(step.jacobian)).numpy()
    found = weigh(balancer, step)
    return np.array([found[task] for task in step.tasks]) @ step.jacobian
