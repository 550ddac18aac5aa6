"""Scoring: one pass over a split answers all its tasks; golds are read as they were found in the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from polytask.data.batch import Collator, Item, groups_by_length
from polytask.data.encode import Source
from polytask.evaluation.bootstrap import score_intervals
from polytask.evaluation.calibration import expected_calibration_error
from polytask.evaluation.metrics import METRICS
from polytask.model.multitask import MultiTaskModel
from polytask.tasks import Task
from polytask.tasks.task import Outputs
from polytask.terms import SMALLER_IS_BETTER, Gold, Intervals, Scores


@dataclass(frozen=True)
class Answers:
    """What a model said about the rows of a source that carry a task's label, in their order.

    Attributes:
        golds: the labels as they stand in the files.
        found: the predictions.
        outputs: what the model's head says: rows (or words that have a token) x size.
        words: for word level, for each row and each of its words whether it has a token.
    """

    task: str
    source: Source
    golds: list[Gold]
    found: list[Gold]
    outputs: Outputs
    words: list[list[int]] | None = None

    @property
    def rows(self) -> list[int]:
        """Which rows of the source these are."""
        return self.source.carries[self.task].tolist()


class Scorer:
    """Predicts and scores the rows of sources."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        collator: Collator,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._tasks = tasks
        self._collator = collator
        self._device = device
        self._precision = precision

    def _outputs(self, model: MultiTaskModel, source: Source) -> dict[str, dict[int, Outputs]]:
        """Return for each task of a source what its head says of each row that carries its label."""
        carried: dict[int, list[str]] = {}
        for task in source.tasks:
            for row in source.carries[task].tolist():
                carried.setdefault(row, []).append(task)
        rows = list(carried)
        found: dict[str, dict[int, Outputs]] = {task: {} for task in source.tasks}
        model.eval()
        with torch.inference_mode():
            for group in groups_by_length([int(source.lengths[row]) for row in rows]):
                self._group_outputs(model, source, [(rows[index], carried[rows[index]]) for index in group], found)
        return found

    def _group_outputs(
        self,
        model: MultiTaskModel,
        source: Source,
        group: Sequence[tuple[int, list[str]]],
        found: dict[str, dict[int, Outputs]],
    ) -> None:
        items = [
            Item(source.ids[row], None if source.type_ids is None else source.type_ids[row],
                 source.word_tokens[row], tuple(tasks), {})
            for row, tasks in group
        ]  # fmt: skip
        batch = self._collator.batch(items)
        with self._precision():
            outputs = model(batch.to(self._device))
        for task, output in outputs.items():
            rows = [group[index][0] for index in batch.order if task in group[index][1]]
            counts = [1] * len(rows)
            if self._tasks[task].level == "word":
                counts = [sum(int(at) >= 0 for at in source.word_tokens[row]) for row in rows]
            parts = np.split(output.cpu().numpy(), np.cumsum(counts)[:-1])
            found[task].update(zip(rows, parts, strict=True))

    def answers(self, model: MultiTaskModel, sources: Sequence[Source]) -> dict[str, Answers]:
        """Predict every task on the rows of its source, in one pass over each source."""
        found: dict[str, Answers] = {}
        for source in sources:
            for name, by_row in self._outputs(model, source).items():
                task, rows = self._tasks[name], source.carries[name].tolist()
                nothing = np.empty((0, task.head.size), np.float32)
                # A source whose words all lack a token has no outputs at all.
                outputs = np.concatenate([nothing, *(by_row[row] for row in rows if row in by_row)])
                words = None
                if task.level == "word":
                    words = [[int(at >= 0) for at in source.word_tokens[row]] for row in rows]
                found[name] = Answers(name, source, truth(source, name), task.decode(outputs, words), outputs, words)
        return {task: found[task] for task in self._tasks if task in found}

    def scores_of(self, answers: Mapping[str, Answers]) -> Scores:
        """Score answers; where a task has probabilities, with their expected calibration error."""
        return {
            task: {**score(self._tasks[task], found.golds, found.found), **calibration_error(self._tasks[task], found)}
            for task, found in answers.items()
        }

    def intervals_of(self, answers: Mapping[str, Answers]) -> Intervals:
        """Return the 95 % intervals of the scores of answers, from a bootstrap over rows.

        The calibration error has none: it is a sum of distances, which resampled rows can only make greater.
        """
        return {
            task: {
                **score_intervals(self._tasks[task], found.golds, found.found),
                **dict.fromkeys(calibration_error(self._tasks[task], found)),
            }
            for task, found in answers.items()
        }

    def scores(self, model: MultiTaskModel, sources: Sequence[Source]) -> Scores:
        """Score every task on the rows of its source."""
        return self.scores_of(self.answers(model, sources))

    def baselines(self, sources: Sequence[Source]) -> Scores:
        """Score the majority baseline (the commonest label, the mean) on the same rows."""
        scores: Scores = {}
        for source in sources:
            for task in source.tasks:
                golds = truth(source, task)
                scores[task] = score(self._tasks[task], golds, self._tasks[task].baseline(golds))
        return {task: scores[task] for task in self._tasks if task in scores}


def calibration_error(task: Task, answers: Answers) -> dict[str, float | None]:
    """Return {"ece": the expected calibration error of a task's answers}; nothing where it has no probabilities."""
    found = task.certainty(answers.outputs, answers.golds, answers.words)
    return {} if found is None else {"ece": expected_calibration_error(*found)}


def truth(source: Source, task: str) -> list[Gold]:
    """Return the labels of the rows that carry a task's label, in their order."""
    return source.raw.select_columns([f"gold.{task}"])[source.carries[task]][f"gold.{task}"]


def rows_scored(sources: Sequence[Source]) -> int:
    """Return how many rows a pass over sources encodes: those that carry any label."""
    return sum(len(np.unique(np.concatenate(list(source.carries.values())))) for source in sources)


def score(task: Task, golds: Sequence[Gold], predictions: Sequence[Gold]) -> dict[str, float | None]:
    """Return every metric of a task."""
    table = METRICS[task.level]
    return {name: table[name](golds, predictions) for name in task.metrics}


def normalised(task: Task, value: float | None, baseline: float | None) -> float:
    """Return a main metric as 0 at the baseline and 1 at perfect; an undefined score counts as the baseline's."""
    if value is None:
        return 0.0
    least = 0.0 if baseline is None else baseline
    if task.metric in SMALLER_IS_BETTER:
        return 1.0 - value / least if least else 0.0
    return (value - least) / (1.0 - least) if least < 1.0 else 0.0
