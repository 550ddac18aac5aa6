"""Arms that train on another number of rows than the single models, which a verdict must not hide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from polytask.comparison.budget import Budget

# Differences of a smaller part of the single models' rows are not told.
CLEAR = 0.05


class RowPlan(NamedTuple):
    """The rows that a model plans to see: of each task, and through the encoder; those of one update; the epochs."""

    rows: Mapping[str, int]
    passed: int
    batch_size: int
    epochs: float

    @classmethod
    def of(cls, budget: Budget, epochs: float) -> RowPlan:
        """Return the rows of a budget."""
        return cls(budget.rows, budget.steps * budget.batch_size, budget.batch_size, epochs)


class UnequalRows(dict[str, tuple[int, int]]):
    """For each task with another number of rows: those of the arm, and those of the single model."""

    def of(self, task: str, arm: str) -> str:
        """Return what to add to a sentence about a task; empty if its rows are equal."""
        if task not in self:
            return ""
        rows, alone = self[task]
        return f"; {arm} trains on {rows:,} rows of {task}, its single model on {alone:,}"

    def note(self, arm: str) -> str:
        """Return the note on an arm."""
        tasks = ", ".join(f"{task} {rows:,} instead of {alone:,}" for task, (rows, alone) in self.items())
        return (
            f"{arm} does not have the budget of the single models, so its differences and the verdicts on it show the "
            f"number of rows as well as sharing: {tasks} rows; to compare sharing alone, set train.epochs, "
            "train.max_steps and the training rows for all arms (--set), not for one"
        )


def unequal_rows(own: RowPlan, joint: RowPlan, alone: Mapping[str, int], *, same_schedule: bool) -> UnequalRows:
    """Return the tasks of which an arm trains on clearly more or fewer rows than their single models.

    An arm with a schedule of its own may divide the rows among the tasks in another way. It is unequal only if the
    tasks' rows are clearly more or fewer in total, and so are those that pass the encoder: with rows that serve several
    tasks, another division changes one of the two numbers.

    Args:
        own: the rows of the arm.
        joint: the rows of the configuration.
        alone: the rows of the single model of each task.
        same_schedule: whether the arm has the schedule of the configuration.
    """
    # Each epoch is rounded up to whole updates.
    rounding = max(own.batch_size, joint.batch_size) * max(1.0, min(own.epochs, joint.epochs))
    in_total = sum(own.rows[task] for task in alone), sum(alone.values())
    if not same_schedule and not (_differ(*in_total, rounding) and _differ(own.passed, joint.passed, rounding)):
        return UnequalRows()
    pairs = {task: (own.rows[task], rows) for task, rows in alone.items()}
    return UnequalRows({task: pair for task, pair in pairs.items() if _differ(*pair, rounding)})


def _differ(rows: int, expected: int, rounding: float) -> bool:
    return abs(rows - expected) > max(rounding, CLEAR * expected)
