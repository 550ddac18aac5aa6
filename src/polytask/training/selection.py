"""Model selection and early stopping, by dev scores only; test scores have a type of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.errors import ConfigError, nearest
from polytask.options import DataOptions, require_each
from polytask.reference_scores import read_scores, require_same_rows
from polytask.registry import Table
from polytask.tasks.metric import smaller_is_better
from polytask.terms import Scores
from polytask.training.options import TrainOptions


@dataclass(frozen=True)
class DevScores:
    """Scores on the dev rows, the only scores that select a model.

    Attributes:
        scores: every metric of every task.
        normalised: each task's main metric, scaled so that 0 is the majority baseline and 1 is perfect.
    """

    scores: Scores
    normalised: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean normalised score over tasks."""
        return sum(self.normalised.values()) / len(self.normalised)


@dataclass(frozen=True)
class TestScores:
    """Scores on the test rows, computed once, after the model has been selected."""

    __test__ = False
    scores: Scores


@dataclass(frozen=True)
class Rule:
    """Maps the dev scores of an evaluation to the number by which it is selected; higher is better.

    Attributes:
        name: name of a rule, or of the only task that counts.
        metrics: main metrics of the tasks that count; if empty, all tasks count.
        baselines: the score that each task is compared with; None for the majority baseline, as in `normalised`.
    """

    name: str = "gap"
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    baselines: Mapping[str, float] | None = None

    def __call__(self, dev: DevScores) -> float:
        """Rate an evaluation."""
        return RULES[self.name](self, dev) if self.name in RULES else dev.normalised[self.name]

    def gaps(self, dev: DevScores) -> list[float]:
        """Return how far each task is above its baseline: the normalised score, or relative to given baselines.

        Source of the relative difference: Maninis et al. 2019, "Attentive Single-Tasking of Multiple Tasks",
        equation 4; divided by the baseline's absolute value, so that higher is better for negative correlations too.
        """
        if self.baselines is None:
            return [gap for task, gap in dev.normalised.items() if task in self.metrics or not self.metrics]
        return [
            _sign(self.metrics[task]) * ((dev.scores[task][self.metrics[task]] or 0.0) - baseline) / abs(baseline)
            for task, baseline in self.baselines.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the rule and its baselines as JSON."""
        return {"rule": self.name, "baselines": None if self.baselines is None else dict(self.baselines)}


def _sign(metric: str) -> int:
    return -1 if smaller_is_better(metric) else 1


def _gap(rule: Rule, dev: DevScores) -> float:
    gaps = rule.gaps(dev)
    return sum(gaps) / len(gaps)


def _mean(rule: Rule, dev: DevScores) -> float:
    """Return the mean metric: negated where lower is better, and 0 where undefined."""
    values = [_sign(metric) * (dev.scores[task][metric] or 0.0) for task, metric in rule.metrics.items()]
    return sum(values) / len(values)


def _worst(rule: Rule, dev: DevScores) -> float:
    return min(rule.gaps(dev))


_RULES: dict[str, Callable[[Rule, DevScores], float]] = {"gap": _gap, "mean": _mean, "worst": _worst}
RULES = Table("selection rule (train.select)", _RULES)


def read_rule(options: TrainOptions, metrics: Mapping[str, str], data: Mapping[str, DataOptions]) -> Rule:
    """Return the rule that the options name.

    Args:
        metrics: the tasks' main metrics.
        data: the tasks' data options.

    Raises:
        ConfigError: if there is no such rule or task, or the baselines cannot be compared with this run.
    """
    if options.select not in RULES and options.select not in metrics:
        raise ConfigError(f"train.select: found {options.select!r}; {nearest(options.select, [*RULES, *metrics])}")
    if options.baselines is None:
        return Rule(options.select, metrics)
    require_each("train.baselines", options.baselines, metrics)
    require_same_rows(options.baselines, data, "train.baselines")
    baselines = read_scores(options.baselines, metrics, "train.baselines")
    for task, value in baselines.items():
        if value == 0:
            raise ConfigError(
                f"train.baselines.{task}: found 0, to which no difference is relative; expected another score"
            )
    return Rule(options.select, metrics, {task: baselines[task] for task in metrics})


class Selection:
    """Remembers the best evaluation by a rule."""

    def __init__(self, patience: int | None, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self._patience = patience
        self.best: float | None = None
        self.best_step = -1
        self.since_best = 0

    def observe(self, step: int, dev: DevScores) -> bool:
        """Process an evaluation, and return whether it is the best so far."""
        if not isinstance(dev, DevScores):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a model is selected by DevScores, never by {type(dev).__name__}")
        value = self.rule(dev)
        if self.best is None or value > self.best:
            self.best, self.best_step, self.since_best = value, step, 0
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
        """Restore a saved state."""
        self.best, self.best_step, self.since_best = state["best"], state["best_step"], state["since_best"]


def pareto(evaluations: Mapping[int, Mapping[str, float]]) -> list[int]:
    """Return the steps of the Pareto-optimal evaluations: no other is as good for every task and better for one.

    Args:
        evaluations: each task's score by step; higher is better.

    >>> pareto({10: {"a": 0.5, "b": 0.1}, 20: {"a": 0.4, "b": 0.3}, 30: {"a": 0.4, "b": 0.2}})
    [10, 20]
    """
    return [
        step for step, scores in evaluations.items() if not any(_beats(other, scores) for other in evaluations.values())
    ]


def _beats(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    return first != second and all(first[task] >= score for task, score in second.items())
