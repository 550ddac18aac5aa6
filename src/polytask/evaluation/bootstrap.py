"""The bootstrap over rows (Efron, 1979): how much a score would vary with other rows from the same distribution.

A replicate gives every row an integer weight; `polytask.tasks.resampling` has the metrics as functions of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.tasks import METRICS, Task
from polytask.tasks.metric import Floats, Level, Resampled
from polytask.terms import Label

BLOCK = 100  # replicates at once
_CELLS = 4_000_000  # weights at once: blocks of long splits have fewer replicates


def weights(rows: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw how often each row occurs in `count` samples with replacement, in blocks of shape (replicates, rows)."""
    generator = np.random.default_rng(seed)
    size = max(1, min(BLOCK, _CELLS // max(rows, 1)))
    for start in range(0, count if rows else 0, size):
        block = min(size, count - start)
        drawn = generator.integers(rows, size=(block, rows)) + rows * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * rows).reshape(block, rows)


def interval(values: Sequence[float] | Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval; None if more than half of the replicates are undefined."""
    replicates = np.asarray(values, dtype=np.float64)
    defined = replicates[np.isfinite(replicates)]
    if not len(defined) or 2 * len(defined) < len(replicates):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled(level: Level, metric: str, labels: Sequence[Any], predictions: Sequence[Any]) -> Resampled:
    """Return a metric of METRICS as a function of the rows' weights."""
    return METRICS[level][metric].over_weights(labels, predictions)


def score_intervals(
    task: Task,
    labels: Sequence[Label],
    predictions: Sequence[Label],
    probabilities: Sequence[float] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float] | None]:
    """Return the 95 % interval of every metric of a task; None if undefined, and for metrics without an interval.

    Args:
        probabilities: probability of the positive label in each row, if there is one.
    """
    supported = [metric for metric in task.metrics if METRICS[task.level][metric].interval]
    measures = {
        metric: resampled(task.level, metric, *task.measured_by(metric, labels, predictions, probabilities))
        for metric in supported
    }
    values: dict[str, list[Floats]] = {metric: [] for metric in measures}
    for block in weights(len(labels), resamples, seed):
        for metric, measure in measures.items():
            values[metric].append(measure(block))
    intervals = {metric: interval(np.concatenate(blocks)) if blocks else None for metric, blocks in values.items()}
    return {metric: intervals.get(metric) for metric in task.metrics}
