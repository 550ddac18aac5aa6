"""Measurements of gradients as the tests make them up, and the adaptive policy that watches them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.sharing import Adaptive, Decision, Plan, Sharing
from polytask.sharing.adaptive import AdaptiveOptions

Gram = NDArray[np.float64]
LAYERS = 6


def copies(plan: Plan) -> int:
    """Size a plan by its copies, the embeddings included."""
    return sum(len(level) for level in plan.levels)


def watch(plan: Plan, *, spare: int = 1000, size: Callable[[Plan], int] = copies, **options: Any) -> Adaptive:
    """Return a policy that decides as soon as it may, with room for so many more copies."""
    values = {
        "interval": 5,
        "threshold": 0.0,
        "confidence": 0.0,
        "patience": 2,
        "min_measurements": 1,
        "smoothing": 0.5,
    }
    single = plan.layers + 1
    values["max_parameters"] = (size(plan) + spare + 0.5) / single
    checked = AdaptiveOptions.model_validate({"strategy": "adaptive", **values, **options})
    policy = checked.policy(Sharing(plan), size, single, 1.0)
    assert policy is not None
    return policy


def gram(tasks: str, *camps: str, level: int = 1, layers: int = LAYERS, cosine: float = 0.5) -> Gram:
    """Tasks agree below a level; from there on each camp agrees with itself and is at odds with the others."""
    camp_of = [next((number for number, camp in enumerate(camps) if task in camp), -1) for task in tasks]
    friends = np.equal.outer(camp_of, camp_of)
    lengths = np.arange(1.0, len(tasks) + 1)  # gradients of different lengths
    found = np.full((layers, len(tasks), len(tasks)), cosine)
    found[level - 1 :] = np.where(friends, cosine, -cosine)
    found[:, np.arange(len(tasks)), np.arange(len(tasks))] = 1.0
    return found * np.outer(lengths, lengths)


def without(found: Gram, tasks: str, missing: str) -> Gram:
    """Return a measurement in which some tasks had no labels."""
    changed = found.copy()
    for task in missing:
        changed[:, tasks.index(task), :] = np.nan
        changed[:, :, tasks.index(task)] = np.nan
    return changed


def decisions(policy: Adaptive, stream: Iterable[Gram]) -> list[tuple[int, Decision]]:
    """Return what was decided, each with the number of the measurement, from 1."""
    found = [(number, policy.observe(one)) for number, one in enumerate(stream, start=1)]
    return [(number, decision) for number, decision in found if decision is not None]
