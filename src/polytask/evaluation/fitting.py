"""Fitting of temperatures and thresholds on dev, after the model has been selected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytask.evaluation.scoring import TaskPredictions, calibration_error
from polytask.tasks import Task
from polytask.terms import DataWarning


@dataclass(frozen=True)
class Fitted:
    """Tasks with temperatures and thresholds fitted on dev.

    Attributes:
        tasks: all tasks, in their order.
        answers: the dev answers with the new decisions.
        notes: notes for the user.
    """

    tasks: Mapping[str, Task]
    answers: Mapping[str, TaskPredictions]
    notes: tuple[DataWarning, ...]


def fit_on_dev(tasks: Mapping[str, Task], answers: Mapping[str, TaskPredictions]) -> Fitted:
    """Fit every task that needs it to its dev answers; other tasks' answers are unchanged."""
    fitted, decided, notes = dict(tasks), dict(answers), list[DataWarning]()
    for name, task_answers in answers.items():
        if not tasks[name].fits_on_dev:
            continue
        fitted[name], more = tasks[name].tuned(task_answers.outputs, task_answers.row_labels, task_answers.words)
        decided[name] = task_answers.decided_by(fitted[name])
        notes += [DataWarning(f"tasks.{name}", message) for message in more]
    return Fitted(fitted, decided, tuple(notes))


def describe_fitted(tasks: Mapping[str, Task], answers: Mapping[str, Mapping[str, TaskPredictions]]) -> dict[str, Any]:
    """Return by task what was fitted on dev, and the expected calibration error before and after.

    Args:
        answers: answers of all tasks, by split.
    """
    described: dict[str, Any] = {}
    for name, task in tasks.items():
        if task.fits_on_dev:
            described[name] = task.describe_tuned()
            if task.calibrates:
                described[name]["ece"] = {
                    split: {"before": _error(task.uncalibrated(), by_task[name]), "after": _error(task, by_task[name])}
                    for split, by_task in answers.items()
                    if name in by_task
                }
    return described


def _error(task: Task, answers: TaskPredictions) -> float | None:
    return calibration_error(task, answers)["ece"]
