"""What is fitted on dev once the model is chosen: temperatures and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytask.evaluation.scoring import TaskPredictions, calibration_error
from polytask.tasks import Task
from polytask.terms import DataWarning


@dataclass(frozen=True)
class Fitted:
    """Tasks with what was fitted on dev.

    Attributes:
        tasks: all tasks, in their order.
        answers: the dev answers, decided anew.
        notes: what a person should know.
    """

    tasks: Mapping[str, Task]
    answers: Mapping[str, TaskPredictions]
    notes: tuple[DataWarning, ...]


def fit_on_dev(tasks: Mapping[str, Task], answers: Mapping[str, TaskPredictions]) -> Fitted:
    """Fit every task that asks for it to its dev answers; those of the others stay as they are."""
    fitted, decided, notes = dict(tasks), dict(answers), list[DataWarning]()
    for name, found in answers.items():
        if not tasks[name].fits_on_dev:
            continue
        fitted[name], more = tasks[name].tuned(found.outputs, found.row_labels, found.words)
        decided[name] = found.decided_by(fitted[name])
        notes += [DataWarning(f"tasks.{name}", message) for message in more]
    return Fitted(fitted, decided, tuple(notes))


def describe_fitted(tasks: Mapping[str, Task], answers: Mapping[str, Mapping[str, TaskPredictions]]) -> dict[str, Any]:
    """Return by task what was fitted on dev, and the expected calibration error without it and with it.

    Args:
        answers: by split.
    """
    told: dict[str, Any] = {}
    for name, task in tasks.items():
        if task.fits_on_dev:
            told[name] = task.describe_tuned()
            if task.calibrates:
                told[name]["ece"] = {
                    split: {"before": _error(task.uncalibrated(), found[name]), "after": _error(task, found[name])}
                    for split, found in answers.items()
                    if name in found
                }
    return told


def _error(task: Task, answers: TaskPredictions) -> float | None:
    return calibration_error(task, answers)["ece"]
