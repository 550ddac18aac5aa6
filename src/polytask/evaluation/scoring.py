"""Scoring: one pass over a split predicts all its tasks; labels are those of the files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytask.data.encode import Source
from polytask.data.engine import Engine, outputs_of
from polytask.data.groups import groups_by_length
from polytask.errors import ConfigError, TrainingError
from polytask.evaluation.bootstrap import score_intervals
from polytask.evaluation.calibration import expected_calibration_error
from polytask.tasks import Task
from polytask.tasks.arrays import Outputs
from polytask.tasks.metric import METRICS, NotANumber, smaller_is_better
from polytask.tasks.soft import hard
from polytask.terms import Intervals, Label, Scores


@dataclass(frozen=True)
class TaskPredictions:
    """A model's predictions for the rows of a source with a task's label, in their order.

    Attributes:
        labels: the labels as in the files.
        predictions: the predictions.
        outputs: raw outputs of the head, of shape (rows, or words that have a token of their own; size).
        words: on word level, NO_TOKEN, OWN_TOKEN or SHARED_TOKEN for each word of each row.
        places: if answers of several rows are compared, the index of the row to which each comparison belongs.
    """

    task: str
    source: Source
    labels: list[Label]
    predictions: list[Label]
    outputs: Outputs
    words: list[list[int]] | None = None
    places: list[int] | None = None

    @property
    def rows(self) -> list[int]:
        """The numbers of these rows in the source."""
        carried = self.source.carries[self.task]
        return (carried if self.places is None else carried[self.places]).tolist()

    @property
    def row_labels(self) -> list[Label]:
        """The labels of all rows with outputs: `labels`, unless answers of several rows are compared."""
        return self.labels if self.places is None else labels_of(self.source, self.task)

    def probabilities(self, task: Task) -> list[float] | None:
        """Return the probability of the positive label in each row; None if there is no positive label."""
        found = task.positive_probabilities(self.outputs)
        return None if found is None else found.tolist()

    def decided_by(self, task: Task) -> TaskPredictions:
        """Return the same outputs with the predictions of another version of the task."""
        found = scored(task, self.row_labels, task.decode(self.outputs, self.words))
        return replace(self, predictions=found[1])


class Scorer:
    """Predicts and scores the rows of sources."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks

    def _outputs(self, engine: Engine, source: Source) -> dict[str, list[Outputs]]:
        """Return each task's raw outputs for the rows of a source with its label, in their order."""
        carried: dict[int, list[str]] = {}
        for task in source.tasks:
            for row in source.carries[task].tolist():
                carried.setdefault(row, []).append(task)
        same = source.same_companions(carried)
        rows = [row for row in carried if row not in same]
        found: dict[str, dict[int, Outputs]] = {task: {} for task in source.tasks}
        for group in groups_by_length([int(source.lengths[row]) for row in rows]):
            numbers = [rows[index] for index in group]
            outputs = engine.run([source.tokens(row) for row in numbers], [tuple(carried[row]) for row in numbers])
            for row, by_task in zip(numbers, outputs, strict=True):
                for task, output in by_task.items():
                    found[task][row] = output
        for row, first in same.items():
            for task in carried[row]:
                found[task][row] = found[task][first]
        return {task: [found[task][row] for row in source.carries[task].tolist()] for task in source.tasks}

    def answers(self, engine: Engine, sources: Sequence[Source]) -> dict[str, TaskPredictions]:
        """Predict every task on the rows of its source, in one pass over each source."""
        found: dict[str, TaskPredictions] = {}
        for source in sources:
            for name, parts in self._outputs(engine, source).items():
                task, words = self._tasks[name], None
                if task.level == "word":
                    words = [source.tokens(row).words for row in source.carries[name].tolist()]
                outputs = (
                    np.concatenate([part.reshape(-1, task.head.size) for part in parts])
                    if parts
                    else (np.empty((0, task.head.size), np.float32))
                )
                require_finite(name, outputs, source)
                if name in source.label_rows:
                    outputs = task.against(outputs, outputs_of(engine, name, source.label_rows[name]))
                labels, predictions, places = scored(task, labels_of(source, name), task.decode(outputs, words))
                found[name] = TaskPredictions(name, source, labels, predictions, outputs, words, places)
        return {task: found[task] for task in self._tasks if task in found}

    def scores_of(self, answers: Mapping[str, TaskPredictions]) -> Scores:
        """Score answers, including the expected calibration error if a task has probabilities."""
        return {
            task: {
                **score(self._tasks[task], found.labels, found.predictions, found.probabilities(self._tasks[task])),
                **calibration_error(self._tasks[task], found),
            }
            for task, found in answers.items()
        }

    def intervals_of(self, answers: Mapping[str, TaskPredictions]) -> Intervals:
        """Return bootstrap 95 % intervals of the scores over rows; None for metrics without an interval."""
        return {
            task: {
                **score_intervals(
                    self._tasks[task], found.labels, found.predictions, found.probabilities(self._tasks[task])
                ),
                **dict.fromkeys(calibration_error(self._tasks[task], found)),
            }
            for task, found in answers.items()
        }

    def scores(self, engine: Engine, sources: Sequence[Source]) -> Scores:
        """Score every task on the rows of its source."""
        return self.scores_of(self.answers(engine, sources))

    def baselines(self, sources: Sequence[Source]) -> Scores:
        """Score the majority baseline (the most frequent label, or the mean) on the same rows."""
        scores: Scores = {}
        for source in sources:
            for task in source.tasks:
                labels = labels_of(source, task)
                truth, found, _ = scored(self._tasks[task], labels, self._tasks[task].baseline(labels))
                scores[task] = score(self._tasks[task], truth, found)
        return {task: scores[task] for task in self._tasks if task in scores}


def require_finite(task: str, outputs: Outputs, source: Source) -> None:
    """Raise TrainingError if a model's outputs are not finite: they would be scored as arbitrary labels."""
    if not np.isfinite(outputs).all():
        raise TrainingError(
            f"the outputs of {task!r} on the {source.split} rows are not finite: the model has diverged"
        )


def calibration_error(task: Task, answers: TaskPredictions) -> dict[str, float | None]:
    """Return {"ece": the expected calibration error of a task's answers}; empty if it has no probabilities.

    If labels are distributions, {"cross_entropy": ...} is included.
    """
    found = task.certainty(answers.outputs, answers.row_labels, answers.words)
    if found is None:
        return {}
    return {"ece": expected_calibration_error(*found), **_distance(task, answers)}


def _distance(task: Task, answers: TaskPredictions) -> dict[str, float | None]:
    """Return {"cross_entropy": that of the answers and the labels} if labels are distributions, otherwise nothing."""
    if not task.soft:
        return {}
    targets = [answers.source.targets[answers.task][row] for row in answers.rows]
    return {"cross_entropy": task.cross_entropy(answers.outputs, np.array(targets, np.float64)) if targets else None}


def labels_of(source: Source, task: str) -> list[Label]:
    """Return a task's labels of the rows that have any, in their order; for soft labels, the most probable one."""
    labels: list[Label] = source.raw.columns([f"label.{task}"], source.carries[task])[f"label.{task}"]
    return [hard(label) for label in labels]


def scored(
    task: Task, labels: list[Label], predictions: list[Label]
) -> tuple[list[Label], list[Label], list[int] | None]:
    """Return the labels and predictions for metrics, and the indices of their rows if these are not all rows."""
    found = task.compared(labels, predictions)
    return (labels, predictions, None) if found is None else (found.labels, found.predictions, found.rows)


def truth_of(task: Task, source: Source) -> list[Label]:
    """Return the true labels of a source's rows, in the form that metrics take."""
    labels = labels_of(source, task.name)
    return scored(task, labels, task.baseline(labels))[0]


def rows_scored(sources: Sequence[Source]) -> int:
    """Return the number of rows that a pass over sources encodes: those with any label."""
    return sum(len(source.labelled) for source in sources)


def score(
    task: Task,
    labels: Sequence[Label],
    predictions: Sequence[Label],
    probabilities: Sequence[float] | None = None,
) -> dict[str, float | None]:
    """Return every metric of a task.

    Args:
        probabilities: probability of the positive label in each row; by default the same in every row.
    """
    return {
        name: _measured(task, name, task.measured_by(name, labels, predictions, probabilities)) for name in task.metrics
    }


def _measured(task: Task, name: str, inputs: tuple[Sequence[Any], Sequence[Any]]) -> float | None:
    """Return a metric of a task. Raises ConfigError if a user's own metric returns no finite number."""
    table = METRICS[task.level]
    try:
        value = table[name](*inputs)
    except NotANumber as error:
        raise ConfigError(f"tasks.{task.name}: metric {name!r}: {error}") from None
    if value is not None and not math.isfinite(value) and name in table.extensions:
        raise ConfigError(
            f"tasks.{task.name}: metric {name!r}: returned {value}; expected a finite number, or None where it is "
            "undefined"
        )
    return value


def normalised(task: Task, value: float | None, baseline: float | None) -> float:
    """Scale a main metric so that 0 is the baseline and 1 is perfect; an undefined score counts as the baseline."""
    if value is None:
        return 0.0
    least = 0.0 if baseline is None else baseline
    if smaller_is_better(task.metric):
        return 1.0 - value / least if least else 0.0
    return (value - least) / (1.0 - least) if least < 1.0 else 0.0
