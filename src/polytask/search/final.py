"""The single evaluation on test rows: the single models, the best joint model, and the shipped model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytask.api import tables_of_split
from polytask.comparison.arms import BASELINE
from polytask.comparison.predictions import ArmPredictions
from polytask.comparison.preparation import TaskScoring
from polytask.comparison.statistics import Difference, compare_arms
from polytask.config import Config
from polytask.data.encode import encode_table
from polytask.evaluation.record import prediction_lines
from polytask.evaluation.scoring import Scorer, rows_scored
from polytask.predict.load import load
from polytask.terms import Split

RESAMPLES = 2000
Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class FinalScores:
    """Scores on test rows.

    Attributes:
        splits: split of each task's rows: test, or dev for a task without test rows.
        differences: differences to the single models, by task and arm.
        rows_per_second: rows predicted for all of their tasks per second, by arm.
        scores, rows: all scores and the number of labelled rows, by arm and task.
    """

    splits: Mapping[str, Split]
    differences: Mapping[str, Mapping[str, Difference]]
    rows_per_second: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    rows: Mapping[str, Mapping[str, int]]


def look(
    config: Config, arms: Mapping[str, Sequence[Path]], judged: Mapping[str, TaskScoring], seed: int
) -> FinalScores:
    """Predict the test rows with the models of each arm.

    Args:
        config: configuration with the test rows.
        arms: folders of each arm's models, which cover every task once; the single models are one arm.
        judged: scoring of each task.
        seed: seed of the bootstrap.
    """
    splits: dict[str, Split] = {
        task: "dev" if options.data.test is None else "test" for task, options in config.tasks.items()
    }
    evaluated = {arm: _Evaluated() for arm in arms}
    for arm, folders in arms.items():
        for folder in folders:
            evaluated[arm].add(folder, config, splits)
    lines = {arm: one.lines for arm, one in evaluated.items()}
    return FinalScores(
        splits,
        {task: _differences(task, judged[task], lines, seed) for task in config.tasks},
        {arm: round(_distinct(one.lines) / one.seconds, 1) for arm, one in evaluated.items() if one.seconds},
        {arm: one.scores for arm, one in evaluated.items()},
        {arm: one.rows for arm, one in evaluated.items()},
    )


@dataclass
class _Evaluated:
    """Predictions of the models of an arm.

    Attributes:
        lines: predictions by task.
        scores: scores by task.
        rows: number of labelled rows by task.
        seconds: seconds that the predictions took.
    """

    lines: dict[str, Lines] = field(default_factory=dict[str, Lines])
    scores: dict[str, Mapping[str, float | None]] = field(default_factory=dict[str, Mapping[str, float | None]])
    rows: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0

    def add(self, folder: Path, config: Config, splits: Mapping[str, Split]) -> None:
        """Predict the rows of a model's tasks."""
        model = load(folder)
        scorer = Scorer(model.tasks)
        for split in sorted(set(splits.values())):
            tables = tables_of_split(model, _of_split(config, splits, split), split)
            sources = [encode_table(table, model.tasks, model.tokens) for table in tables]
            if not rows_scored(sources):
                continue
            began = time.monotonic()
            answers = scorer.answers(model.engine, sources)
            self.seconds += time.monotonic() - began
            self.scores |= scorer.scores_of({name: given for name, given in answers.items() if given.labels})
            for name, predictions in answers.items():
                self.lines[name] = list(prediction_lines(model.tasks[name], predictions))
                self.rows[name] = len(predictions.labels)


def _of_split(config: Config, splits: Mapping[str, Split], split: Split) -> Config:
    """Return the configuration of the tasks that are evaluated on this split."""
    return config.model_copy(
        update={"tasks": {name: task for name, task in config.tasks.items() if splits[name] == split}}
    )


def _distinct(lines: Mapping[str, Lines]) -> int:
    return len({line["text"] for task_lines in lines.values() for line in task_lines})


def _differences(
    task: str, judged: TaskScoring, lines_by_arm: Mapping[str, Mapping[str, Lines]], seed: int
) -> dict[str, Difference]:
    answers = {arm: ArmPredictions.of([lines[task]], (seed,)) for arm, lines in lines_by_arm.items()}
    measured = judged.measured(answers)
    return compare_arms(judged.metric, judged.level, measured, baseline=BASELINE, resamples=RESAMPLES, seed=0)
