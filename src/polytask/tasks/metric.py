"""Metrics: one object with all that selection, intervals, comparisons and thresholds need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.errors import ConfigError
from polytask.inputs import describe
from polytask.registry import Table

if TYPE_CHECKING:
    from polytask.tasks.cuts import Objective

Level: TypeAlias = Literal["row", "word"]
Floats: TypeAlias = NDArray[np.float64]
# Takes the true labels and the predictions of all rows.
Function: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], "float | None"]
# Maps row weights, replicates x rows, to the metric in each replicate; nan if it is undefined.
Resampled: TypeAlias = Callable[[NDArray[Any]], Floats]
# What a metric takes as truth and predictions. labels: labels; positive: whether each row has the positive label, and
# whether it is predicted; probabilities: whether each row has the positive label, and its predicted probability.
Takes: TypeAlias = Literal["labels", "positive", "probabilities"]
# Takes the numbers of true positives, false positives, false negatives and true negatives.
OfCounts: TypeAlias = Callable[[Floats, Floats, Floats, Floats], Floats]


class NotANumber(ConfigError):
    """A metric returned something else than a number; the message describes it."""


def _number(value: Any) -> float | None:  # noqa: ANN401
    """Return the value of a metric: a number, or an array or a tensor of one. Raises NotANumber for anything else."""
    if value is None or type(value) is float:
        return value
    if isinstance(value, int | float | np.number | np.bool_) or tuple(getattr(value, "shape", (0,))) == ():
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise NotANumber(f"a metric returned {describe(value)}; expected a number, or None where it is undefined")


@dataclass(frozen=True)
class Metric:
    """A metric. A perfect score is 1, or 0 if smaller is better.

    Attributes:
        function: takes the true labels and the predictions of all rows, and returns None if it is undefined. Without
            a function, the metric is computed from probabilities elsewhere.
        takes: what the truth and the predictions are. labels: labels; positive: booleans, whether a row has the
            positive label and whether it is predicted; probabilities: the same truth, with the label's probability.
        types: other task types that are scored by it, in addition to their own metrics.
        smaller_is_better: whether it measures errors.
        interval: whether it has a confidence interval by bootstrapping; resampling would bias metrics such as ECE.
        resampled: builds, from true and predicted labels, a function of the rows' weights (see
            `polytask.evaluation.bootstrap`); by default the metric is computed on repeated rows, which is slower.
        objective: finds the best thresholds of a multi-label task for it; None if they cannot be tuned.
        of_counts: the metric of two classes as a function of arrays of counts, for tuning the threshold of a
            classification; None if it cannot be tuned.
    """

    function: Function | None
    takes: Takes = "labels"
    types: tuple[str, ...] = ()
    smaller_is_better: bool = False
    interval: bool = True
    resampled: Callable[[Sequence[Any], Sequence[Any]], Resampled] | None = None
    objective: Objective | None = None
    of_counts: OfCounts | None = None

    def __call__(self, truth: Sequence[Any], predictions: Sequence[Any]) -> float | None:
        assert self.function is not None, "a metric of probabilities is computed elsewhere"
        return _number(self.function(truth, predictions))

    def over_weights(self, truth: Sequence[Any], predictions: Sequence[Any]) -> Resampled:
        """Return the metric as a function of the rows' weights: replicates x rows to replicates."""
        if self.resampled is not None:
            return self.resampled(truth, predictions)

        def measure(block: NDArray[Any]) -> Floats:
            return np.array([self._of_repeated(truth, predictions, counts) for counts in block], np.float64)

        return measure

    def _of_repeated(self, truth: Sequence[Any], predictions: Sequence[Any], counts: NDArray[Any]) -> float:
        rows = np.repeat(np.arange(len(truth)), counts).tolist()
        value = self([truth[row] for row in rows], [predictions[row] for row in rows])
        return np.nan if value is None else value


class MetricTable(Table[Metric]):
    """Metrics of tasks at one level, by name."""

    def register(self, name: str, row: Any = None, **options: Any) -> Any:  # noqa: ANN401
        """Add a metric; or, as a decorator, a function with the other fields of its `Metric` as keyword arguments.

        Raises ConfigError as `Table.register` does, and if `smaller_is_better` differs from the other level's metric.
        """
        if row is None:
            return lambda function: (self.register(name, Metric(function, **options)), function)[1]
        for table in METRICS.values():
            other = table.get(name)
            if isinstance(row, Metric) and other is not None and other.smaller_is_better != row.smaller_is_better:
                raise ConfigError(f"{self.noun} {name!r}: whether less is better differs from the {table.noun}'s")
        return super().register(name, row)


METRICS: dict[Level, MetricTable] = {
    "row": MetricTable("metric of rows", {}, base=Metric),
    "word": MetricTable("metric of words", {}, base=Metric),
}


def smaller_is_better(metric: str) -> bool:
    """Whether a metric, of either level, is better the smaller it is."""
    return any(metric in table and table[metric].smaller_is_better for table in METRICS.values())


def has_interval(metric: str) -> bool:
    """Whether a metric has a confidence interval."""
    return all(table[metric].interval for table in METRICS.values() if metric in table)


def metrics_of_type(own_metrics: Sequence[str], level: Level, type_name: str = "") -> tuple[str, ...]:
    """Return the names of a task type's metrics: its own and those registered for it."""
    added = [name for name, metric in METRICS[level].items() if type_name in metric.types]
    return tuple(dict.fromkeys([*own_metrics, *added]))


def ordered_metrics(metrics: tuple[str, ...], main: str | None) -> tuple[str, ...]:
    """Put the main metric first."""
    return metrics if main is None else (main, *(name for name in metrics if name != main))
