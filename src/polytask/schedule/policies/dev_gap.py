"""Policy that gives rows to tasks that are far from a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.errors import ConfigError
from polytask.options import require_each
from polytask.reference_scores import read_scores
from polytask.schedule.policies.policy import Policy, PolicyOptions, at_least
from polytask.schedule.schedule import Change, Feedback, Workload
from polytask.tasks.metric import smaller_is_better


class DevGap(Policy):
    """Factors proportional to how far a task's main dev metric is below its target, relative to the target."""

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        targets = options.targets
        if not targets:
            raise ConfigError("schedule.targets: not set; dev_gap needs the score that each task is to reach")
        require_each("schedule.targets", targets, workload.sizes)
        for task, metric in workload.metrics.items():
            if smaller_is_better(metric):
                raise ConfigError(
                    f"schedule.targets: found {task!r}, which is scored by {metric}; dev_gap accepts only metrics that "
                    f"are better when higher; choose another tasks.{task}.metric, or another schedule.policy"
                )
        self._targets = read_scores(targets, workload.metrics, "schedule.targets")
        self._metrics = workload.metrics
        self._gaps = dict.fromkeys(self.tasks, 1.0)

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        # Not 0 if all targets are reached: then all tasks get the same factor.
        return at_least({task: max(self._gaps[task], 1e-9) for task in ready})

    def observe(self, feedback: Feedback) -> list[Change]:
        for task, scores in (feedback.dev or {}).items():
            target, score = self._targets[task], scores.get(self._metrics[task])
            gap = 1.0 if score is None else (target - score) / max(abs(target), 1e-9)
            self._gaps[task] = min(1.0, max(0.0, gap))
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"gaps": dict(self._gaps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gaps = dict(state["gaps"])
