"""Which evaluation was best, and when to stop: by dev scores only, which test scores cannot pass for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytask.terms import Scores


@dataclass(frozen=True)
class DevScores:
    """Scores on the dev rows, the only ones that choose a model.

    Attributes:
        scores: every metric of every task.
        normalised: each task's main metric, 0 at the majority baseline and 1 at perfect.
    """

    scores: Scores
    normalised: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean normalised score over tasks."""
        return sum(self.normalised.values()) / len(self.normalised)


@dataclass(frozen=True)
class TestScores:
    """Scores on the test rows, seen once, after the model has been chosen."""

    __test__ = False
    scores: Scores


class Selection:
    """Remembers the best evaluation by the mean normalised dev score."""

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self.best: float | None = None
        self.best_step = -1
        self.since_best = 0

    def observe(self, step: int, dev: DevScores) -> bool:
        """Take in an evaluation and say whether it is the best so far."""
        if not isinstance(dev, DevScores):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a model is chosen by DevScores, never by {type(dev).__name__}")
        if self.best is None or dev.mean > self.best:
            self.best, self.best_step, self.since_best = dev.mean, step, 0
            return True
        self.since_best += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return self._patience is not None and self.since_best >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"best": self.best, "best_step": self.best_step, "since_best": self.since_best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.best, self.best_step, self.since_best = state["best"], state["best_step"], state["since_best"]


def pareto(evaluations: Mapping[int, Mapping[str, float]]) -> list[int]:
    """Return the steps of the evaluations that no other one beats: is as good for every task, and better for one.

    Args:
        evaluations: by step, each task's score, of which more is better.

    >>> pareto({10: {"a": 0.5, "b": 0.1}, 20: {"a": 0.4, "b": 0.3}, 30: {"a": 0.4, "b": 0.2}})
    [10, 20]
    """
    return [
        step for step, found in evaluations.items() if not any(_beats(other, found) for other in evaluations.values())
    ]


def _beats(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one != other and all(one[task] >= score for task, score in other.items())
