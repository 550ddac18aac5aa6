"""The single evaluation on test rows: the single models, the best joint model, and the shipped model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """

    splits: Mapping[str, Split]
    differences: Mapping[str, Mapping[str, Difference]]
    rows_per_second: Mapping[str, float]


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
    lines_by_arm: dict[str, dict[str, Lines]] = {}
    speeds: dict[str, float] = {}
    for arm, folders in arms.items():
        lines_by_arm[arm], speeds[arm] = {}, 0.0
        for folder in folders:
            lines, seconds = _answers(folder, config, splits)
            lines_by_arm[arm] |= lines
            speeds[arm] += seconds
    rows = {arm: _distinct(lines) for arm, lines in lines_by_arm.items()}
    return FinalScores(
        splits,
        {task: _differences(task, judged[task], lines_by_arm, seed) for task in config.tasks},
        {arm: round(rows[arm] / seconds, 1) for arm, seconds in speeds.items() if seconds},
    )


def _answers(folder: Path, config: Config, splits: Mapping[str, Split]) -> tuple[dict[str, Lines], float]:
    """Return a model's predictions by task, and the seconds that they took."""
    model = load(folder)
    scorer = Scorer(model.tasks)
    lines: dict[str, Lines] = {}
    seconds = 0.0
    for split in sorted(set(splits.values())):
        tables = tables_of_split(model, _of_split(config, splits, split), split)
        sources = [encode_table(table, model.tasks, model.tokens) for table in tables]
        if rows_scored(sources):
            began = time.monotonic()
            answers = scorer.answers(model.engine, sources)
            seconds += time.monotonic() - began
            lines |= {
                name: list(prediction_lines(model.tasks[name], predictions)) for name, predictions in answers.items()
            }
    return lines, seconds


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
