"""Simulated tasks: their losses and scores follow known curves of the rows that they have seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from polytask.schedule import Change, Feedback, Schedule, Stage, Step


@dataclass
class Curve:
    """A task that learns: loss = floor + height * exp(-seen / tau), and score = top * (1 - exp(-seen / tau)).

    Attributes:
        tau: rows in which what is to be learned falls to 1/e; infinite for a task that never learns.
        forgets: share of what it has seen that is lost in a step in which it does not train.
        from_step: step until which it does not learn.
    """

    tau: float
    floor: float = 0.1
    height: float = 2.0
    top: float = 1.0
    forgets: float = 0.0
    from_step: int = 0
    seen: float = 0.0

    def train(self, rows: int, step: int) -> None:
        """See a step's rows, or forget."""
        if rows:
            self.seen += rows if step >= self.from_step else 0
        else:
            self.seen *= 1.0 - self.forgets

    @property
    def left(self) -> float:
        """What remains to be learned, from 1 to 0."""
        return math.exp(-self.seen / self.tau)

    @property
    def loss(self) -> float:
        return self.floor + self.height * self.left

    @property
    def score(self) -> float:
        return self.top * (1.0 - self.left)


@dataclass
class Lesson:
    """A simulated run: its steps with their stages and epochs; by steps made, its changes and its dev scores."""

    steps: list[Step] = field(default_factory=list)
    changes: list[tuple[int, Change]] = field(default_factory=list)
    scores: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    def drawn(self, first: int = 0, last: int | None = None) -> Counter[str]:
        """Return the rows that each task drew from one step to before another."""
        found: Counter[str] = Counter()
        for step in self.steps[first:last]:
            found.update(step.rows)
        return found

    def events(self, name: str, task: str | None = None) -> list[int]:
        """Return the steps that were made when something changed."""
        return [step for step, change in self.changes if change.event == name and task in (None, change.values["task"])]


def teach(
    schedule: Schedule,
    curves: Mapping[str, Curve],
    steps: int,
    *,
    every: int = 10,
    metric: str = "f1",
    until: Callable[[Mapping[str, float]], bool] | None = None,
) -> Lesson:
    """Train simulated tasks as the loop does: losses after each step, scores after `every` steps; stop where it may."""
    lesson = Lesson()
    for number in range(1, min(steps, schedule.limit) + 1):
        lesson.stages.append(schedule.stage)
        lesson.epochs.append(schedule.steps_per_epoch)
        step = schedule.next()
        lesson.steps.append(step)
        losses = {task: curves[task].loss for task in step.rows}
        errors = {
            task: (np.array([rows * curves[task].left, 0.0]), np.array([float(rows), 0.0]))
            for task, rows in step.rows.items()
        }
        for task, curve in curves.items():
            curve.train(step.rows.get(task, 0), step.number)
        told = Feedback(step.number, losses, errors=errors if schedule.reads_errors else {})
        lesson.changes += [(number, change) for change in schedule.observe(told)]
        if number % every == 0:
            scores = {task: curve.score for task, curve in curves.items()}
            lesson.scores.append((number, scores))
            dev = {task: {metric: score} for task, score in scores.items()}
            lesson.changes += [(number, change) for change in schedule.observe(Feedback(number, {}, dev, scores))]
            if until is not None and until(scores):
                break
        if schedule.finished is not None:
            break
    return lesson
