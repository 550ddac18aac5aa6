"""Differences between an exported model and the one in torch: outputs and predictions, and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask import corpus
from polytask.data.engine import Engine, RowOutputs
from polytask.data.groups import groups_by_length
from polytask.data.tokens import TokenRow
from polytask.data.words import split_words
from polytask.predict.predictor import Model
from polytask.tasks import Task
from polytask.tasks.metric import smaller_is_better
from polytask.terms import Scores

# Number of texts of the bundled corpus to compare for tasks without labelled rows.
TEXTS = 256


@dataclass(frozen=True)
class TaskParity:
    """One task before and after an export.

    Attributes:
        rows: number of compared rows.
        difference: largest absolute difference of any output.
        agreement: fraction of rows with equal predictions; None if predictions are not labels.
        before, after: scores; empty without labelled rows.
        lost: points (hundredths) of the main metric that were lost; negative for a gain; None without scores.
    """

    rows: int
    difference: float
    agreement: float | None
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    lost: float | None


class _Recorded:
    """An engine that records its outputs and their tasks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.kept: list[tuple[tuple[str, ...], RowOutputs]] = []

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        outputs = self._engine.run(rows, tasks)
        self.kept.extend(zip(tasks, outputs, strict=True))
        return outputs

    def describe(self) -> dict[str, Any]:
        return self._engine.describe()


@dataclass(frozen=True)
class ParityMeasurement:
    """Outputs and scores of a model.

    Attributes:
        kept: the tasks of each row, and their outputs.
        scores: scores of the tasks with labelled rows.
    """

    kept: Sequence[tuple[tuple[str, ...], RowOutputs]]
    scores: Scores


def measure(model: Model, data: Mapping[str, str | Sequence[str]], run: Path | None = None) -> ParityMeasurement:
    """Run a model on labelled rows, and on texts of the bundled corpus for tasks that have none.

    Args:
        model: the model.
        data: labelled files by task, or for all tasks under "all".
        run: folder of a run whose dev rows are used if there is no data.
    """
    engine = _Recorded(model.engine)
    scores: Scores = {}
    recorded = Model(model.tasks, model.tokens, engine, model.about)
    if data:
        from polytask.api import answer_files

        scorer, answers = answer_files(recorded, data)
        scores = scorer.scores_of(answers)
    elif run is not None:
        from polytask.api import score_dev_rows

        scores = score_dev_rows(recorded, run)
    for rows, tasks in _corpus_rows(model, [task for task in model.tasks if task not in scores]):
        engine.run(rows, [tasks] * len(rows))
    return ParityMeasurement(engine.kept, scores)


def compare(tasks: Mapping[str, Task], before: ParityMeasurement, after: ParityMeasurement) -> dict[str, TaskParity]:
    """Compare an exported model with the original, task by task, on the same rows."""
    return {
        name: _parity(task, before.kept, after.kept, before.scores.get(name, {}), after.scores.get(name, {}))
        for name, task in tasks.items()
    }


def _parity(
    task: Task,
    kept: Sequence[tuple[tuple[str, ...], RowOutputs]],
    others: Sequence[tuple[tuple[str, ...], RowOutputs]],
    before: Mapping[str, float | None],
    after: Mapping[str, float | None],
) -> TaskParity:
    difference, alike, rows = 0.0, 0, 0
    for (tasks, first_outputs), (other_tasks, second_outputs) in zip(kept, others, strict=True):
        assert tasks == other_tasks
        if task.name in tasks:
            first, second = first_outputs[task.name], second_outputs[task.name]
            # not max(), which drops a nan
            difference = float(np.maximum(difference, np.abs(first - second).max(initial=0.0)))
            alike += not task.label_texts and _decoded(task, first) == _decoded(task, second)
            rows += 1
    agreement = alike / rows if task.labels and rows and not task.label_texts else None
    return TaskParity(rows, difference, agreement, before, after, lost_points(task, before, after))


def _decoded(task: Task, outputs: NDArray[np.float32]) -> Any:  # noqa: ANN401
    if task.level == "row":
        return task.decode(outputs[None])
    return task.decode(outputs, [[1] * len(outputs)])


def lost_points(task: Task, before: Mapping[str, float | None], after: Mapping[str, float | None]) -> float | None:
    """Return the points of its main metric that a task lost; losing a defined score counts as losing all of it."""
    first, second = before.get(task.metric), after.get(task.metric)
    if first is None:
        return None
    if second is None:
        return float("inf")
    lost = 100 * (first - second)
    return -lost if smaller_is_better(task.metric) else lost


def _corpus_rows(model: Model, tasks: Sequence[str]) -> Iterator[tuple[list[TokenRow], tuple[str, ...]]]:
    """Yield rows of the bundled corpus in groups of similar length, with the tasks that read them.

    Every eighth row consists of several texts, so that long and truncated rows are included.
    """
    texts = [text.text for _, text in zip(range(TEXTS), corpus.texts(), strict=False)]
    texts = [" ".join(texts[at : at + 8]) if at % 8 == 0 else text for at, text in enumerate(texts)]
    for paired in (False, True):
        chosen = tuple(task for task in tasks if (model.tasks[task].options.text_pair is not None) == paired)
        if not chosen:
            continue
        pairs = [*texts[1:], texts[0]] if paired else None
        rows = model.tokens.rows(texts, pairs, [split_words(text) for text in texts])
        for group in groups_by_length([len(row.ids) for row in rows]):
            yield [rows[index] for index in group], chosen
