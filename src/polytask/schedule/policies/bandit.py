"""Policy that gives rows to tasks whose loss falls most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from polytask.schedule.policies.loss_windows import LossWindows
from polytask.schedule.policies.policy import Policy, PolicyOptions
from polytask.schedule.schedule import Change, Feedback, Workload

# Decay of the greatest progress seen, per reward; and the share of the weights that is distributed equally.
MEMORY, SHARED = 0.8, 0.05


class Bandit(Policy):
    """EXP3.S with learning progress as reward: the tasks are arms, and rows are divided by the arms' probabilities.

    Source: Auer et al. 2002, "The Nonstochastic Multiarmed Bandit Problem", section 8: EXP3 with a small part of the
    weights shared, for a best arm that changes; learning progress as reward as in Graves et al. 2017, "Automated
    Curriculum Learning for Neural Networks". A window's reward is the relative decrease of the loss, scaled to -1 to 1
    by the greatest one seen recently (in the paper by quantiles of all), divided by the arm's probability.
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
        probabilities, count = self.factors(0, self.tasks), len(self.tasks)
        self._greatest = max(*map(abs, progress.values()), MEMORY * self._greatest, 1e-12)
        for task, gain in progress.items():
            self._weights[task] *= math.exp(self.options.explore / count * gain / self._greatest / probabilities[task])
        mean = sum(self._weights.values()) / count
        self._weights = {task: (1.0 - SHARED) * weight / mean + SHARED for task, weight in self._weights.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"windows": self._windows.state_dict(), "weights": dict(self._weights), "greatest": self._greatest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state["windows"])
        self._weights, self._greatest = dict(state["weights"]), state["greatest"]
