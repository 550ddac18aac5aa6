"""What is counted while a run goes on: what each task has seen, and the losses between two lines of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from polytask.data.encode import Source
from polytask.data.stream import DrawnRow
from polytask.terms import Scores


@dataclass
class Exposure:
    """What one task has seen."""

    rows: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class UpdateStats:
    """What one update measured: mean losses, weights of the tasks where a balancer chose them, the gradient's norm."""

    losses: Mapping[str, float]
    weights: Mapping[str, float]
    norm: float


@dataclass
class Window:
    """What was measured since the last line of the event log."""

    steps: list[UpdateStats] = field(default_factory=list[UpdateStats])

    def add(self, measured: UpdateStats) -> None:
        """Count one step."""
        self.steps.append(measured)

    def to_json(self) -> dict[str, Any]:
        """Return each task's mean loss and mean weight, and the last norm."""
        found: dict[str, Any] = {"losses": _means([step.losses for step in self.steps])}
        weights = _means([step.weights for step in self.steps])
        return {**found, **({"weights": weights} if weights else {}), "norm": round(self.steps[-1].norm, 6)}


def _means(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in records:
        for task, value in one.items():
            values.setdefault(task, []).append(value)
    return {task: round(sum(listed) / len(listed), 6) for task, listed in values.items()}


class StageScores:
    """Each task's main dev score at the end of every stage: what a schedule of stages learns, and what it forgets.

    Args:
        metrics: the tasks' main metrics.
    """

    def __init__(self, metrics: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._stages: list[dict[str, Any]] = []

    def add(self, stage: str, step: int, dev: Scores) -> None:
        """Note the dev scores at the end of a stage."""
        scores = {task: dev[task][metric] for task, metric in self._metrics.items()}
        self._stages.append({"stage": stage, "step": step, "scores": scores})

    def to_json(self) -> list[dict[str, Any]]:
        """Return the stages in their order."""
        return self._stages

    def load(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Go on from saved stages."""
        self._stages = [dict(stage) for stage in stages]


class Exposures:
    """What all tasks have seen."""

    def __init__(self, tasks: Sequence[str], sources: Sequence[Source]) -> None:
        self._sources = sources
        self._seen = {task: Exposure() for task in tasks}

    def count(self, drawn: Sequence[DrawnRow]) -> int:
        """Count the rows of a step, and return its tokens."""
        tokens = 0
        for one in drawn:
            source = self._sources[one.source]
            length = int(source.lengths[one.row])
            tokens += length
            for task in one.tasks:
                self._seen[task].rows += 1
                self._seen[task].tokens += length
            for row, task in source.companions(one.row, one.tasks):
                tokens += int(source.lengths[row])
                self._seen[task].tokens += int(source.lengths[row])
        return tokens

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return rows, tokens and epochs of its own data that each task has seen."""
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
        """Go on from saved counts."""
        self._seen = {task: Exposure(*seen) for task, seen in state.items()}
