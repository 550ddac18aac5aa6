"""The rating of a joint model: its worst task relative to that task's single model, then the mean over tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polytask.tasks.metric import smaller_is_better

# The value of an undefined score: nothing was learned.
_NOTHING = 0.0


@dataclass(frozen=True)
class Rating:
    """Differences to the single models on dev rows, at the same share of the budget.

    Attributes:
        deltas: difference of each task in the unit of its metric; positive is better. Tasks are missing if the scores
            of both models are undefined.
        floor: allowed loss of a task, in the same unit.
    """

    deltas: Mapping[str, float]
    floor: float

    @property
    def worst(self) -> float:
        """The smallest difference of any task."""
        return min(self.deltas.values(), default=0.0)

    @property
    def mean(self) -> float:
        """The mean difference over tasks."""
        return sum(self.deltas.values()) / max(1, len(self.deltas))

    @property
    def key(self) -> tuple[float, float]:
        """Sort key: losses within the floor count as zero, so that above it the mean decides."""
        return min(self.worst, -self.floor), self.mean


def rate(
    scores: Mapping[str, float | None],
    singles: Mapping[str, float | None],
    metrics: Mapping[str, str],
    floor: float,
) -> Rating:
    """Return the rating of a joint model.

    Args:
        scores, singles: main dev score of each task; None if undefined.
        metrics: main metric of each task.
        floor: allowed loss of a task in points, hundredths of the metric's unit.
    """
    defined = [task for task in metrics if scores[task] is not None or singles[task] is not None]
    return Rating({task: advantage(scores[task], singles[task], metrics[task]) for task in defined}, floor / 100)


def advantage(score: float | None, other: float | None, metric: str) -> float:
    """Return how much better a score is than another one."""
    sign = -1.0 if smaller_is_better(metric) else 1.0
    if smaller_is_better(metric) and (score is None) != (other is None):
        return float("-inf") if score is None else float("inf")
    return sign * ((_NOTHING if score is None else score) - (_NOTHING if other is None else other))
