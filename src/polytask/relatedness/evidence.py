"""The inputs and results of the measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """All measurements; None where there are none.

    Attributes:
        tasks: T names.
        products: inner products of the tasks' gradients at K points of the probe, of shape (layers, T, K, T, K).
        before: mean losses at each point, of shape (K, T).
        after: shape (K, T, T); row i, column j is task j's loss after a step on task i's loss alone.
        states: for each task, its single-task model's states of the same texts, of shape (layers, texts, width).
        transfer: shape (T, T); row i, column j is how much task i changed task j's score; nan where unknown.
    """

    tasks: tuple[str, ...]
    products: Floats | None = None
    before: Floats | None = None
    after: Floats | None = None
    states: Mapping[str, Floats] | None = None
    transfer: Floats | None = None


@dataclass(frozen=True)
class MeasureResult:
    """The values of a measure for each pair of tasks.

    Attributes:
        matrix: shape (T, T); row i, column j is how much task i helps task j.
        error: standard errors of shape (T, T), if the measure has any.
        layers: the same for each layer, from layer 1.
    """

    matrix: Floats
    error: Floats | None = None
    layers: Mapping[str, Floats] = field(default_factory=dict[str, Floats])


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        title: title for display.
        meaning: explanation in one sentence.
        signed: whether 0 separates help from harm; a similarity has no such point.
        compute: the function; it returns None if there is no evidence.
    """

    title: str
    meaning: str
    signed: bool
    compute: Callable[[Evidence], MeasureResult | None]


def jackknife(statistic: Callable[[NDArray[np.intp]], Floats], count: int) -> Floats:
    """Return the jackknife standard error of a statistic of `count` measurements.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", equation 11.5. Infinite below 2 measurements.
    """
    everything = np.arange(count)
    if count < 2:
        return np.full_like(statistic(everything), np.inf)
    left_out = np.stack([statistic(np.delete(everything, one)) for one in range(count)])
    return np.sqrt((count - 1) / count * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
