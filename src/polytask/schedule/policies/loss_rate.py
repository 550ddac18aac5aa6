"""Policy that gives rows to tasks whose loss falls slowly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.schedule.policies.loss_windows import LossWindows
from polytask.schedule.policies.policy import Policy, PolicyOptions, at_least
from polytask.schedule.schedule import Change, Feedback, Workload


class LossRate(Policy):
    """Factors K softmax(r / T), where r is the ratio of a task's loss to its previous loss.

    Source: dynamic weight average, Liu et al. 2019, "End-to-End Multi-Task Learning with Attention". The paper weights
    losses, averaged over epochs; here rows are divided, and losses are averaged over windows of updates.
    """

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._windows = LossWindows(self.tasks, options.window)

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        known = {task: self._windows.ratio(task) for task in ready}
        ratios = {task: 1.0 if ratio is None else ratio for task, ratio in known.items()}
        highest = max(ratios.values())
        return at_least(
            {task: math.exp((ratio - highest) / self.options.softmax_temperature) for task, ratio in ratios.items()}
        )

    def observe(self, feedback: Feedback) -> list[Change]:
        self._windows.add(feedback.losses)
        return []

    def state_dict(self) -> dict[str, Any]:
        return self._windows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state)
