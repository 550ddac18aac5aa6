"""What the measures read, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured; what is None was not.

    Attributes:
        tasks: T names.
        products: layers x T x K x T x K inner products of the tasks' gradients at K points of the probe.
        before: K x T mean losses at each point.
        after: K x T x T; row i, column j is task j's loss after a step on task i's loss alone.
        states: for each task the states that its own single-task model has of the same texts: layers x texts x width.
        transfer: T x T; row i, column j is how much task i changed task j's score; nan where nobody tried.
    """

    tasks: tuple[str, ...]
    products: Floats | None = None
    before: Floats | None = None
    after: Floats | None = None
    states: Mapping[str, Floats] | None = None
    transfer: Floats | None = None


@dataclass(frozen=True)
class MeasureResult:
    """What a measure says of each pair of tasks.

    Attributes:
        matrix: T x T; row i, column j is how much task i does for task j.
        error: T x T standard errors, where the measure has any.
        layers: the same for each layer, from layer 1.
    """

    matrix: Floats
    error: Floats | None = None
    layers: Mapping[str, Floats] = field(default_factory=dict[str, Floats])


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        title: for a person.
        meaning: one sentence.
        signed: whether 0 parts help from harm; a similarity has no such point.
        compute: returns None where there is no evidence.
    """

    title: str
    meaning: str
    signed: bool
    compute: Callable[[Evidence], MeasureResult | None]


def jackknife(statistic: Callable[[NDArray[np.intp]], Floats], count: int) -> Floats:
    """Return the standard error of a statistic of `count` measurements, leaving one out at a time.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", equation 11.5. Infinite below 2 measurements.
    """
    everything = np.arange(count)
    if count < 2:
        return np.full_like(statistic(everything), np.inf)
    left_out = np.stack([statistic(np.delete(everything, one)) for one in range(count)])
    return np.sqrt((count - 1) / count * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
