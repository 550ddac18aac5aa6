"""Statistics of a run: each task's exposure, and losses between two lines of the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.data.encode import Source
from polytask.data.stream import DrawnRow
from polytask.terms import Scores


@dataclass
class Exposure:
    """The rows and tokens that one task has seen."""

    rows: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class UpdateStats:
    """Statistics of one update: the tasks' mean losses, their weights if the balancer chose any, the gradient norm."""

    losses: Mapping[str, float]
    weights: Mapping[str, float]
    norm: float


@dataclass
class Window:
    """Statistics since the last line of the event log."""

    steps: list[UpdateStats] = field(default_factory=list[UpdateStats])

    def add(self, stats: UpdateStats) -> None:
        """Add the statistics of one update."""
        self.steps.append(stats)

    def to_json(self) -> dict[str, Any]:
        """Return each task's mean loss and mean weight, and the last norm."""
        losses = _means([step.losses for step in self.steps])
        weights = _means([step.weights for step in self.steps])
        return {"losses": losses, **({"weights": weights} if weights else {}), "norm": round(self.steps[-1].norm, 6)}


def _means(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for record in records:
        for task, value in record.items():
            values.setdefault(task, []).append(value)
    return {task: round(sum(numbers) / len(numbers), 6) for task, numbers in values.items()}


class StageScores:
    """Each task's main dev score at the end of every stage, which shows what later stages forget.

    Args:
        metrics: the tasks' main metrics.
    """

    def __init__(self, metrics: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._stages: list[dict[str, Any]] = []

    def add(self, stage: str, step: int, dev: Scores) -> None:
        """Record the dev scores at the end of a stage."""
        scores = {task: dev[task][metric] for task, metric in self._metrics.items()}
        self._stages.append({"stage": stage, "step": step, "scores": scores})

    def to_json(self) -> list[dict[str, Any]]:
        """Return the stages in their order."""
        return self._stages

    def load(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Restore saved stages."""
        self._stages = [dict(stage) for stage in stages]


class Exposures:
    """The exposure of all tasks."""

    def __init__(self, tasks: Sequence[str], sources: Sequence[Source]) -> None:
        self._sources = sources
        self._seen = {task: Exposure() for task in tasks}

    def count(self, drawn: Sequence[DrawnRow]) -> int:
        """Count the rows of a step, and return its number of tokens."""
        tokens = 0
        for row in drawn:
            source = self._sources[row.source]
            length = int(source.lengths[row.row])
            tokens += length
            for task in row.tasks:
                self._seen[task].rows += 1
                self._seen[task].tokens += length
            for companion, task in source.companions(row.row, row.tasks):
                tokens += int(source.lengths[companion])
                self._seen[task].tokens += int(source.lengths[companion])
        return tokens

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return the rows, tokens and epochs of its own data that each task has seen."""
        sizes = {task: len(source.drawn[task]) for source in self._sources for task in source.tasks}
        return {
            task: {"rows": seen.rows, "tokens": seen.tokens, "epochs": round(seen.rows / sizes[task], 4)}
            for task, seen in self._seen.items()
        }

    def in_first_pass(self) -> set[str]:
        """Return the tasks that have seen no row twice."""
        sizes = {task: len(source.drawn[task]) for source in self._sources for task in source.tasks}
        return {task for task, seen in self._seen.items() if seen.rows <= sizes[task]}

    def state_dict(self) -> dict[str, list[int]]:
        """Return the counts as JSON."""
        return {task: [seen.rows, seen.tokens] for task, seen in self._seen.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[int]]) -> None:
        """Restore saved counts."""
        self._seen = {task: Exposure(*seen) for task, seen in state.items()}
