"""Policy that gives rows to tasks that still make errors on their training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from polytask.schedule.policies.policy import Policy, PolicyOptions, at_least
from polytask.schedule.schedule import Change, Feedback, Workload
from polytask.tasks.class_errors import ClassErrors


class TrainingErrorPolicy(Policy):
    """Factors proportional to a task's error on its training rows.

    A task that has been learned, or that has memorised its few rows, leaves its rows to the others. The error is the
    mean over a task's classes of 1 minus the probability of the right class: between 0 and 1 for every task type.
    Source: the priorities of dynamic task prioritization (Guo et al. 2018, section 3.1). The paper weights losses by a
    key performance indicator; here rows are divided by the training error, which needs no dev rows.
    """

    reads_errors: ClassVar[bool] = True

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._errors = {task: ClassErrors() for task in self.tasks}

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        power = self.options.error_power
        return at_least({task: max(self._errors[task].mean, 1e-9) ** power for task in ready})

    def observe(self, feedback: Feedback) -> list[Change]:
        for task, (sums, counts) in feedback.errors.items():
            self._errors[task].add(sums, counts)
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"errors": {task: error.to_json() for task, error in self._errors.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._errors = {task: ClassErrors.from_json(error) for task, error in state["errors"].items()}
