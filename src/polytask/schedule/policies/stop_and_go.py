"""Policy that pauses a task that stopped improving until it gets worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polytask.schedule.policies.policy import Policy, PolicyOptions
from polytask.schedule.schedule import Change, Feedback, Workload


class StopAndGo(Policy):
    """Pauses a task that stopped improving on dev, with a sparse refresh, and resumes it when it gets worse.

    Source: dynamic stop-and-go, Lu et al. 2020, "12-in-1: Multi-Task Vision and Language Representation Learning",
    section 3.3: stop after two epochs with a gain below 0.1 %, then train every 4th iteration, go on after a loss of
    0.5 %. Here evaluations are counted, and the score is the normalised main metric. After a task resumes, its best
    score is the one to which it dropped; evaluations before a task's first step do not count. A task whose best score
    is that of its majority baseline has not begun to learn, and does not pause.
    """

    def __init__(self, options: PolicyOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._best: dict[str, float] = {}
        self._since = dict.fromkeys(self.tasks, -1)  # the first evaluation is not one without improvement
        self._pausing: set[str] = set()
        self._trained: set[str] = set()

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        # If no task improves, all continue until one gets worse.
        everyone = step % self.options.refresh == 0 or self._pausing.issuperset(ready)
        return {task: float(everyone or task not in self._pausing) for task in ready}

    def observe(self, feedback: Feedback) -> list[Change]:
        self._trained.update(feedback.losses)
        if feedback.dev is None:
            return []
        trained, self._trained = self._trained, set()
        changes = [
            self._pause_or_go(task, score, task in trained)
            for task, score in feedback.normalised.items()
            if task in trained or task in self._best
        ]
        return [change for change in changes if change is not None]

    def _pause_or_go(self, task: str, score: float, trained: bool) -> Change | None:
        best = self._best.setdefault(task, score)
        values = {"task": task, "score": score, "best": best}
        if score > best + self.options.least_gain * abs(best):
            self._best[task], self._since[task] = score, 0
        elif task in self._pausing and score < best - self.options.resume_drop * abs(best):
            self._pausing.discard(task)
            self._best[task], self._since[task] = score, 0
            return Change("go", values)
        elif trained and self._best[task] != 0 and task not in self._pausing:
            self._since[task] += 1
            if self._since[task] >= self.options.patience:
                self._pausing.add(task)
                return Change("stop", values)
        return None

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": dict(self._best),
            "since": dict(self._since),
            "pausing": sorted(self._pausing),
            "trained": sorted(self._trained),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._since = dict(state["best"]), dict(state["since"])
        self._pausing, self._trained = set(state["pausing"]), set(state["trained"])
