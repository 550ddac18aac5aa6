"""The budget: how many rows of each task a run plans to see, so that every arm can get as many.

Schedules are pure, so the plan is found by running through all steps of a new schedule. For a schedule that follows
feedback it is the plan without any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from polytask.assembly import Assembly
from polytask.errors import ConfigError
from polytask.schedule import Feedback, Schedule, passed
from polytask.terms import Stratum
from polytask.training.recipe import batch_size_for


@dataclass(frozen=True)
class Budget:
    """The plan of the configuration's own run.

    Attributes:
        rows: rows that each task sees; repeated ones count again.
        sizes: number of training rows with each task's label.
        steps: number of updates.
        evaluations: number of evaluations at which a model may be selected.
        batch_size: rows that pass the encoder in one update.
        free: whether each model chooses its own batch size (`auto`).
        sources: strata of each source: rows with labels of the same tasks.
    """

    rows: Mapping[str, int]
    sizes: Mapping[str, int]
    steps: int
    evaluations: int
    batch_size: int
    free: bool
    sources: tuple[tuple[Stratum, ...], ...]

    def alone(self, task: str) -> dict[str, float]:
        """Return training options with which a single-task model sees as many rows of the task, within half an update.

        It is evaluated about as often as the joint model, or once per epoch if it has more epochs than that.

        Raises ConfigError if the joint model sees no row of the task.
        """
        self._require_rows(task)
        return self._lasting(self.rows[task], self.sizes[task], labels=1.0)

    def _lasting(self, rows: float, size: int, labels: float) -> dict[str, float]:
        batch_size = batch_size_for(labels) if self.free else self.batch_size
        steps, epoch = max(1, round(rows / batch_size)), math.ceil(size / batch_size)
        limits = {"epochs": steps / epoch, "evaluations_per_epoch": max(1, self.evaluations * epoch // steps)}
        return {**limits, "batch_size": batch_size} if self.free else limits

    def _require_rows(self, task: str) -> None:
        if not self.rows[task]:
            raise ConfigError(
                f"tasks.{task}: nothing to compare: the run of {self.steps} steps ends before this task trains on any "
                "row; raise train.max_steps, or train it alone"
            )

    def pair(self, first: str, second: str) -> dict[str, float]:
        """Return training options with which a model of two tasks sees as many rows of each, as `alone`."""
        self._require_rows(first)
        self._require_rows(second)
        strata = [stratum for source_strata in self.sources for stratum in source_strata]
        size = sum(stratum.rows for stratum in strata if first in stratum.tasks or second in stratum.tasks)
        seen = passed(self.sources, self.sizes, {task: self.rows[task] for task in (first, second)})
        return self._lasting(seen, size, labels=2.0)


def planned(assembly: Assembly) -> Budget:
    """Return the budget of a run."""
    options, workload, schedule = assembly.config.train, assembly.workload, assembly.schedule()
    steps = min(schedule.limit, options.max_steps or schedule.limit)
    often = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
    rows = dict.fromkeys(workload.sizes, 0)
    step_count = _count(schedule, steps, rows)
    evaluations = max(1, math.ceil(step_count / often))
    free = any(choice.option == "train.batch_size" for choice in assembly.choices)
    return Budget(rows, workload.sizes, step_count, evaluations, workload.batch_size, free, workload.sources)


def _count(schedule: Schedule, steps: int, rows: dict[str, int]) -> int:
    """Add the rows of all steps to `rows`, and return the number of steps."""
    for number in range(steps):
        if schedule.finished is not None:
            return number
        step = schedule.next()
        schedule.observe(Feedback(step.number, {}))
        for task, count in step.rows.items():
            rows[task] += count
    return steps
