"""Every balancer with its options, and made-up steps for it to weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytask.balance import BALANCERS, BalanceOptions, Balancer
from polytask.testing import FOUR, StepGradients, random_step, update, weigh

TASKS = FOUR
__all__ = [
    "AGGREGATORS",
    "DRAWING",
    "METHODS",
    "TASKS",
    "WEIGHTINGS",
    "Method",
    "StepGradients",
    "alike",
    "random_step",
    "update",
    "weigh",
]


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
WEIGHTINGS = tuple(method for method in METHODS if method.kind.shape != "gradients")
AGGREGATORS = tuple(method for method in METHODS if method.kind.shape == "gradients")
# Those that draw random numbers, and so do not know the tasks' order from another.
DRAWING = frozenset({"random", "pcgrad", "gradvac", "graddrop"})


def alike(number: int, tasks: Sequence[str] = TASKS) -> StepGradients:
    """Make a step up in which all tasks have one loss, one gradient and as many rows."""
    step = random_step(number, tasks)
    gradients = np.tile(step.jacobian[0], (len(tasks), 1))
    return StepGradients(step.tasks, np.full_like(step.values, step.values[0]), gradients, np.ones_like(step.counts))
