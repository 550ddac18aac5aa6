"""Scoring: one pass over a split answers all its tasks; labels are read as they were found in the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polytask.data.encode import Source
from polytask.data.engine import Engine, outputs_of
from polytask.data.groups import groups_by_length
from polytask.errors import TrainingError
from polytask.evaluation.bootstrap import score_intervals
from polytask.evaluation.calibration import expected_calibration_error
from polytask.tasks import Task
from polytask.tasks.arrays import Outputs
from polytask.tasks.metric import METRICS, smaller_is_better
from polytask.tasks.soft import hard
from polytask.terms import Intervals, Label, Scores


@dataclass(frozen=True)
class TaskPredictions:
    """What a model said about the rows of a source that carry a task's label, in their order.

    Attributes:
        labels: the labels as they stand in the files.
        predictions: the predictions.
        outputs: what the model's head says: rows (or words that have a token of their own) x size.
        words: for word level, for each row and each of its words NO_TOKEN, OWN_TOKEN or SHARED_TOKEN.
        places: where answers of several rows are compared, beside which of the rows each comparison stands.
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
        """Which rows of the source these are."""
        carried = self.source.carries[self.task]
        return (carried if self.places is None else carried[self.places]).tolist()

    @property
    def row_labels(self) -> list[Label]:
        """The labels of all rows that the outputs are of: `labels`, unless answers of several rows are compared."""
        return self.labels if self.places is None else labels_of(self.source, self.task)

    def probabilities(self, task: Task) -> list[float] | None:
        """Return the probability of the positive label in each row; None where none is known."""
        found = task.positive_probabilities(self.outputs)
        return None if found is None else found.tolist()

    def decided_by(self, task: Task) -> TaskPredictions:
        """Return the same outputs with the predictions of another form of their task."""
        found = scored(task, self.row_labels, task.decode(self.outputs, self.words))
        return replace(self, predictions=found[1])


class Scorer:
    """Predicts and scores the rows of sources."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks

    def _outputs(self, engine: Engine, source: Source) -> dict[str, list[Outputs]]:
        """Return for each task of a source what its head says of each row that carries its label, in their order."""
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
        """Score answers; where a task has probabilities, with their expected calibration error."""
        return {
            task: {
                **score(self._tasks[task], found.labels, found.predictions, found.probabilities(self._tasks[task])),
                **calibration_error(self._tasks[task], found),
            }
            for task, found in answers.items()
        }

    def intervals_of(self, answers: Mapping[str, TaskPredictions]) -> Intervals:
        """Return the 95 % intervals of the scores of answers, from a bootstrap over rows; None for NO_INTERVAL."""
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
        """Score the majority baseline (the commonest label, the mean) on the same rows."""
        scores: Scores = {}
        for source in sources:
            for task in source.tasks:
                labels = labels_of(source, task)
                truth, found, _ = scored(self._tasks[task], labels, self._tasks[task].baseline(labels))
                scores[task] = score(self._tasks[task], truth, found)
        return {task: scores[task] for task in self._tasks if task in scores}


def require_finite(task: str, outputs: Outputs, source: Source) -> None:
    """Raise TrainingError where a model's outputs are no numbers: each would be scored as some label or other."""
    if not np.isfinite(outputs).all():
        raise TrainingError(
            f"the outputs of {task!r} on the {source.split} rows are not finite: the model has diverged"
        )


def calibration_error(task: Task, answers: TaskPredictions) -> dict[str, float | None]:
    """Return {"ece": the expected calibration error of a task's answers}; nothing where it has no probabilities.

    Where labels are distributions, with {"cross_entropy": ...} to them.
    """
    found = task.certainty(answers.outputs, answers.row_labels, answers.words)
    if found is None:
        return {}
    return {"ece": expected_calibration_error(*found), **_distance(task, answers)}


def _distance(task: Task, answers: TaskPredictions) -> dict[str, float | None]:
    """Return {"cross_entropy": the answers' to the labels, where these are distributions}; nothing of others."""
    if not task.soft:
        return {}
    targets = [answers.source.targets[answers.task][row] for row in answers.rows]
    return {"cross_entropy": task.cross_entropy(answers.outputs, np.array(targets, np.float64)) if targets else None}


def labels_of(source: Source, task: str) -> list[Label]:
    """Return the labels of the rows that carry a task's label, in their order; of soft ones the most probable."""
    labels: list[Label] = source.raw.columns([f"label.{task}"], source.carries[task])[f"label.{task}"]
    return [hard(label) for label in labels]


def scored(
    task: Task, labels: list[Label], predictions: list[Label]
) -> tuple[list[Label], list[Label], list[int] | None]:
    """Return what metrics take of a split's rows, and beside which rows it stands where that is not all of them."""
    found = task.compared(labels, predictions)
    return (labels, predictions, None) if found is None else (found.labels, found.predictions, found.rows)


def truth_of(task: Task, source: Source) -> list[Label]:
    """Return the true labels that metrics take of a source's rows."""
    labels = labels_of(source, task.name)
    return scored(task, labels, task.baseline(labels))[0]


def rows_scored(sources: Sequence[Source]) -> int:
    """Return how many rows a pass over sources encodes: those that carry any label."""
    return sum(len(source.labelled) for source in sources)


def score(
    task: Task,
    labels: Sequence[Label],
    predictions: Sequence[Label],
    probabilities: Sequence[float] | None = None,
) -> dict[str, float | None]:
    """Return every metric of a task.

    Args:
        probabilities: of the positive label, where one is known; without them it is as probable in every row.
    """
    table = METRICS[task.level]
    return {name: table[name](*task.measured_by(name, labels, predictions, probabilities)) for name in task.metrics}


def normalised(task: Task, value: float | None, baseline: float | None) -> float:
    """Return a main metric as 0 at the baseline and 1 at perfect; an undefined score counts as the baseline's."""
    if value is None:
        return 0.0
    least = 0.0 if baseline is None else baseline
    if smaller_is_better(task.metric):
        return 1.0 - value / least if least else 0.0
    return (value - least) / (1.0 - least) if least < 1.0 else 0.0
