"""How good a joint model is: its worst task against that task's own model, then the mean over tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from polytask.tasks.metric import smaller_is_better

# What stands for a score that is undefined: nothing was learned.
_NOTHING = 0.0


@dataclass(frozen=True)
class Rating:
    """Differences to the single models on dev rows, at the same share of the budget.

    Attributes:
        deltas: by task, in the unit of its metric; positive is better.
        floor: what a task may lose, in the same unit.
    """

    deltas: Mapping[str, float]
    floor: float

    @property
    def worst(self) -> float:
        """The difference of the task that is worst off."""
        return min(self.deltas.values())

    @property
    def mean(self) -> float:
        """The mean difference over tasks."""
        return sum(self.deltas.values()) / len(self.deltas)

    @property
    def key(self) -> tuple[float, float]:
        """What is compared: losses within the floor are none, so above it the mean decides."""
        return min(self.worst, -self.floor), self.mean


def rate(
    scores: Mapping[str, float | None],
    singles: Mapping[str, float | None],
    metrics: Mapping[str, str],
    floor: float,
) -> Rating:
    """Return the rating of a joint model.

    Args:
        scores, singles: each task's main dev score; None where it is undefined.
        metrics: each task's main metric.
        floor: in points, hundredths of a metric's unit.
    """
    return Rating({task: advantage(scores[task], singles[task], metrics[task]) for task in metrics}, floor / 100)


def advantage(score: float | None, other: float | None, metric: str) -> float:
    """Return how much better a score is than another one."""
    sign = -1.0 if smaller_is_better(metric) else 1.0
    if smaller_is_better(metric) and (score is None) != (other is None):
        return float("-inf") if score is None else float("inf")
    return sign * ((_NOTHING if score is None else score) - (_NOTHING if other is None else other))
