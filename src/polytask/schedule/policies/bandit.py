"""Rows to tasks whose loss falls most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.schedule.policies.loss_windows import LossWindows
from polytask.schedule.policies.policy import Policy, PolicyOptions
from polytask.schedule.schedule import Change, Feedback, Workload

# What remains, after each reward, of the greatest progress seen; and the share of the weights that is shared.
MEMORY, SHARED = 0.8, 0.05


class Bandit(Policy):
    """EXP3.S whose reward is learning progress: the tasks are arms, and the rows are dealt by the arms' probabilities.

    Source: Auer et al. 2002, "The Nonstochastic Multiarmed Bandit Problem", section 8: EXP3 whose weights are shared a
    little, for a best arm that changes; learning progress as the reward as in Graves et al. 2017, "Automated Curriculum
    Learning for Neural Networks". A window's reward is the relative fall of the loss, -1 to 1 when divided by the
    greatest seen lately (there by quantiles of all seen), and by the arm's probability: the progress for its rows.
    """

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._windows = LossWindows(self.tasks, options.window)
        self._weights = dict.fromkeys(self.tasks, 1.0)
        self._greatest = 0.0

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        total, explore = sum(self._weights[task] for task in ready), self.options.explore
        return {task: (1 - explore) * self._weights[task] / total + explore / len(ready) for task in ready}

    def observe(self, feedback: Feedback) -> list[Change]:
        ratios = {task: self._windows.ratio(task) for task in self._windows.add(feedback.losses)}
        progress = {task: max(-1.0, 1.0 - ratio) for task, ratio in ratios.items() if ratio is not None}
        if progress:
            self._reward(progress)
        return []

    def _reward(self, progress: Mapping[str, float]) -> None:
        chances, count = self.factors(0, self.tasks), len(self.tasks)
        self._greatest = max(*map(abs, progress.values()), MEMORY * self._greatest, 1e-12)
        for task, found in progress.items():
            self._weights[task] *= math.exp(self.options.explore / count * found / self._greatest / chances[task])
        mean = sum(self._weights.values()) / count
        self._weights = {task: (1.0 - SHARED) * weight / mean + SHARED for task, weight in self._weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"windows": self._windows.state_dict(), "weights": dict(self._weights), "greatest": self._greatest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state["windows"])
        self._weights, self._greatest = dict(state["weights"]), state["greatest"]
