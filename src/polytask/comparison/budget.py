"""The budget: how many rows of each task a run plans to see, so that every arm can be given as many.

Schedules are pure, so the plan is found by asking a new one for all its steps. Of a schedule that follows feedback it
is what it would do without any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from polytask.assembly import Assembly
from polytask.schedule import Feedback, Schedule, passed
from polytask.terms import Stratum
from polytask.training.recipe import batch_size_for


@dataclass(frozen=True)
class Budget:
    """What the configuration's own run plans.

    Attributes:
        rows: rows of each task, repeated ones counted again.
        sizes: the training rows that carry each task's label.
        steps: updates.
        evaluations: times that a model may be chosen.
        batch_size: rows that go through the encoder in one update.
        free: whether each model chooses its batch size by itself (`auto`).
        sources: for each source its strata: rows that carry the labels of the same tasks.
    """

    rows: Mapping[str, int]
    sizes: Mapping[str, int]
    steps: int
    evaluations: int
    batch_size: int
    free: bool
    sources: tuple[tuple[Stratum, ...], ...]

    def alone(self, task: str) -> dict[str, float]:
        """Return the training options under which a model of one task sees as many rows, to within half an update.

        It is evaluated about as often as the joint model, and once an epoch where its epochs are more.
        """
        return self._lasting(self.rows[task], self.sizes[task], labels=1.0)

    def _lasting(self, rows: float, size: int, labels: float) -> dict[str, float]:
        batch_size = batch_size_for(labels) if self.free else self.batch_size
        steps, epoch = max(1, round(rows / batch_size)), math.ceil(size / batch_size)
        limits = {"epochs": steps / epoch, "evaluations_per_epoch": max(1, self.evaluations * epoch // steps)}
        return {**limits, "batch_size": batch_size} if self.free else limits

    def pair(self, first: str, second: str) -> dict[str, float]:
        """Return the training options under which a model of two tasks sees as many rows of each."""
        strata = [stratum for found in self.sources for stratum in found]
        size = sum(stratum.rows for stratum in strata if first in stratum.tasks or second in stratum.tasks)
        seen = passed(self.sources, self.sizes, {task: self.rows[task] for task in (first, second)})
        return self._lasting(seen, size, labels=2.0)


def planned(assembly: Assembly) -> Budget:
    """Return the budget of a run."""
    options, workload, schedule = assembly.config.train, assembly.workload, assembly.schedule()
    steps = min(schedule.limit, options.max_steps or schedule.limit)
    often = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
    rows = dict.fromkeys(workload.sizes, 0)
    made = _count(schedule, steps, rows)
    evaluations = max(1, math.ceil(made / often))
    free = any(choice.option == "train.batch_size" for choice in assembly.choices)
    return Budget(rows, workload.sizes, made, evaluations, workload.batch_size, free, workload.sources)


def _count(schedule: Schedule, steps: int, rows: dict[str, int]) -> int:
    """Add up the rows of all steps, and return how many steps there are."""
    for number in range(steps):
        if schedule.finished is not None:
            return number
        step = schedule.next()
        schedule.observe(Feedback(step.number, {}))
        for task, count in step.rows.items():
            rows[task] += count
    return steps
