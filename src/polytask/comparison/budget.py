"""The budget: how many rows of each task a run plans to see, so that every arm can be given as many.

Schedules are pure, so the plan is found by asking a new one for all its steps. Of a schedule that follows feedback it
is what it would do without any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from polytask.assemble import Assembly
from polytask.schedule import Feedback, Schedule


@dataclass(frozen=True)
class Budget:
    """What the configuration's own run plans.

    Attributes:
        rows: rows of each task, repeated ones counted again.
        steps: updates.
        evaluations: times that a model may be chosen.
        batch_rows: rows that go through the encoder in one update.
        sources: groups of tasks that read the same rows, with the number of those rows.
    """

    rows: Mapping[str, int]
    steps: int
    evaluations: int
    batch_rows: int
    sources: tuple[tuple[tuple[str, ...], int], ...]

    def alone(self, task: str) -> dict[str, float]:
        """Return the training options under which a model of one task sees as many rows, to within half an update.

        It is evaluated about as often as the joint model, and once an epoch where its epochs are more.
        """
        size = next(rows for tasks, rows in self.sources if task in tasks)
        return self._lasting(self.rows[task], size)

    def _lasting(self, rows: int, size: int) -> dict[str, float]:
        steps, epoch = max(1, round(rows / self.batch_rows)), math.ceil(size / self.batch_rows)
        return {"epochs": steps / epoch, "evaluations_per_epoch": max(1, self.evaluations * epoch // steps)}

    def pair(self, one: str, other: str) -> dict[str, float]:
        """Return the training options under which a model of two tasks sees as many rows of each."""
        together = [tasks for tasks, _ in self.sources if one in tasks and other in tasks]
        size = sum(rows for tasks, rows in self.sources if one in tasks or other in tasks)
        seen = max(self.rows[one], self.rows[other]) if together else self.rows[one] + self.rows[other]
        return self._lasting(seen, size)


def planned(assembly: Assembly) -> Budget:
    """Return the budget of a run."""
    options, workload, schedule = assembly.config.train, assembly.workload, assembly.schedule()
    steps = min(schedule.limit, options.max_steps or schedule.limit)
    often = max(1, schedule.steps_per_epoch // options.evaluations_per_epoch)
    rows = dict.fromkeys(workload.sizes, 0)
    made = _count(schedule, steps, rows)
    return Budget(rows, made, max(1, math.ceil(made / often)), options.batch_rows, workload.sources)


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
