"""Dynamic: as parallel, and feedback moves the proportions; a policy is one class and one row of POLICIES."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from polytask.errors import ConfigError, nearest
from polytask.schedule.parallel import Mixed, MixedOptions
from polytask.schedule.schedule import Change, Feedback, Workload
from polytask.terms import SMALLER_IS_BETTER


class DynamicOptions(MixedOptions):
    """Options of the dynamic schedule."""

    strategy: Literal["dynamic"]
    policy: Literal["loss_rate", "dev_gap", "bandit", "stop_and_go"] = Field(
        default="loss_rate",
        description="loss_rate: rows to tasks that learn slowly; dev_gap: to those far from their target; bandit: to "
        "those whose loss falls most; stop_and_go: a task that stopped improving pauses until it gets worse",
    )
    window: int = Field(default=20, ge=1, description="updates that a loss is averaged over (loss_rate, bandit)")
    sharpness: float = Field(default=2.0, gt=0, description="temperature of loss_rate; great is uniform")
    targets: dict[str, float] | None = Field(default=None, description="dev_gap: score to reach, by task")
    explore: float = Field(default=0.3, gt=0, le=1, description="bandit: share of the rows that is dealt alike")
    patience: int = Field(default=2, ge=1, description="stop_and_go: evaluations without improvement before a pause")
    least_gain: float = Field(default=0.001, ge=0, description="stop_and_go: what counts as improvement (relative)")
    loss: float = Field(
        default=0.005, ge=0, description="stop_and_go: fall below its best that ends a pause (relative)"
    )
    refresh: int = Field(default=4, ge=2, description="stop_and_go: a pausing task trains every so many updates")


class Policy(ABC):
    """From feedback to factors of the tasks' shares."""

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        self.options = options
        self.tasks = tuple(workload.sizes)

    @abstractmethod
    def factors(self, step: int) -> Mapping[str, float]:
        """Return a factor of each task's share, 0 or greater."""

    @abstractmethod
    def observe(self, feedback: Feedback) -> list[Change]:
        """Take in what was measured."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""


class Windows:
    """Mean losses over windows of updates in which a task trained."""

    def __init__(self, tasks: Sequence[str], length: int) -> None:
        self._length = length
        self._open: dict[str, list[float]] = {task: [] for task in tasks}
        self.means: dict[str, list[float]] = {task: [] for task in tasks}

    def add(self, losses: Mapping[str, float]) -> list[str]:
        """Add a step's losses and return the tasks whose window is full now; the last two means are kept."""
        full: list[str] = []
        for task, loss in losses.items():
            self._open[task].append(loss)
            if len(self._open[task]) == self._length:
                self.means[task] = [*self.means[task][-1:], sum(self._open[task]) / self._length]
                self._open[task] = []
                full.append(task)
        return full

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"open": {task: list(found) for task, found in self._open.items()}, "means": dict(self.means)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._open = {task: list(found) for task, found in state["open"].items()}
        self.means = {task: list(found) for task, found in state["means"].items()}


class LossRate(Policy):
    """Rows to tasks whose loss falls slowly: K softmax(r / T), r the ratio of a loss to the one before.

    Source: dynamic weight average, Liu et al. 2019, "End-to-End Multi-Task Learning with Attention", section 3.3; there
    the losses are weighed by it, here the rows are dealt by it.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._windows = Windows(self.tasks, options.window)

    def factors(self, step: int) -> Mapping[str, float]:
        del step
        ratios = {
            task: means[1] / means[0] if len(means) == 2 and means[0] > 0 else 1.0
            for task, means in self._windows.means.items()
        }
        return {task: math.exp(ratio / self.options.sharpness) for task, ratio in ratios.items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        self._windows.add(feedback.losses)
        return []

    def state_dict(self) -> dict[str, Any]:
        return self._windows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state)


class DevGap(Policy):
    """Rows in proportion to how far a task's main metric on dev is from its target."""

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        targets = options.targets
        if not targets:
            raise ConfigError("schedule.targets: missing; dev_gap needs the score that each task is to reach")
        for task in targets:
            if task not in workload.sizes:
                raise ConfigError(f"schedule.targets: found {task!r}; {nearest(task, workload.sizes)}")
        for task in workload.sizes:
            if task not in targets:
                raise ConfigError(f"schedule.targets: no target for {task!r}; every task needs one")
            if workload.metrics.get(task) in SMALLER_IS_BETTER:
                raise ConfigError(
                    f"schedule.targets: {task!r} is scored by {workload.metrics[task]}, of which less is better; "
                    "choose another metric for it"
                )
        self._targets = targets
        self._metrics = workload.metrics
        self._gaps = dict.fromkeys(self.tasks, 1.0)

    def factors(self, step: int) -> Mapping[str, float]:
        del step
        # A task that has reached its target keeps a little, so that it is not forgotten.
        return {task: max(gap, 0.05) for task, gap in self._gaps.items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        for task, scores in (feedback.dev or {}).items():
            target = self._targets[task]
            found = scores.get(self._metrics[task])
            self._gaps[task] = 1.0 if found is None else max(0.0, (target - found) / max(abs(target), 1e-9))
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"gaps": dict(self._gaps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gaps = dict(state["gaps"])


class Bandit(Policy):
    """EXP3 whose reward is learning progress: the tasks are arms, and the rows are dealt by the arms' probabilities.

    Source: EXP3, Auer et al. 2002, "The Nonstochastic Multiarmed Bandit Problem", section 3; learning progress as the
    reward as in Graves et al. 2017, "Automated Curriculum Learning", section 3. A window's reward is the relative
    fall of the loss, scaled to -1 .. 1 by the greatest seen, and weighed by the arm's probability.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._windows = Windows(self.tasks, options.window)
        self._logs = dict.fromkeys(self.tasks, 0.0)
        self._greatest = 0.0

    def factors(self, step: int) -> Mapping[str, float]:
        del step
        top = max(self._logs.values())
        weights = {task: math.exp(value - top) for task, value in self._logs.items()}
        total, count, explore = sum(weights.values()), len(weights), self.options.explore
        return {task: (1 - explore) * weight / total + explore / count for task, weight in weights.items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        for task in self._windows.add(feedback.losses):
            means = self._windows.means[task]
            if len(means) == 2 and means[0] > 0:
                progress = (means[0] - means[1]) / means[0]
                self._greatest = max(self._greatest, abs(progress), 1e-12)
                chance = self.factors(feedback.step)[task]
                reward = progress / self._greatest
                self._logs[task] += self.options.explore / len(self.tasks) * reward / chance
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"windows": self._windows.state_dict(), "logs": dict(self._logs), "greatest": self._greatest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state["windows"])
        self._logs, self._greatest = dict(state["logs"]), state["greatest"]


class StopAndGo(Policy):
    """A task that stopped improving on dev pauses, with a sparse refresh, and returns when it gets worse.

    Source: dynamic stop-and-go, Lu et al. 2020, "12-in-1: Multi-Task Vision and Language Representation Learning",
    section 3.3: stop after two epochs with less than 0.1 % gained, train every 4th iteration meanwhile, go after 0.5 %
    lost. Here it goes by evaluations, and by the normalised main metric.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._best: dict[str, float] = {}
        self._since = dict.fromkeys(self.tasks, 0)
        self._pausing: set[str] = set()

    def factors(self, step: int) -> Mapping[str, float]:
        refresh = step % self.options.refresh == 0
        if len(self._pausing) == len(self.tasks):  # nobody improves: all go on, until someone loses
            return dict.fromkeys(self.tasks, 1.0)
        return {task: float(task not in self._pausing or refresh) for task in self.tasks}

    def observe(self, feedback: Feedback) -> list[Change]:
        changes: list[Change] = []
        for task, score in feedback.normalised.items() if feedback.dev is not None else ():
            best = self._best.get(task)
            if best is None or score > best + self.options.least_gain * abs(best):
                self._best[task] = score if best is None else max(best, score)
                self._since[task] = 0
            else:
                self._since[task] += 1
            if task in self._pausing and score < self._best[task] - self.options.loss * abs(self._best[task]):
                self._pausing.discard(task)
                self._since[task] = 0
                changes.append(Change("go", {"task": task, "score": score, "best": self._best[task]}))
            elif task not in self._pausing and self._since[task] >= self.options.patience:
                self._pausing.add(task)
                changes.append(Change("stop", {"task": task, "score": score, "best": self._best[task]}))
        return changes

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self._best), "since": dict(self._since), "pausing": sorted(self._pausing)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._since = dict(state["best"]), dict(state["since"])
        self._pausing = set(state["pausing"])


POLICIES: dict[str, type[Policy]] = {
    "loss_rate": LossRate,
    "dev_gap": DevGap,
    "bandit": Bandit,
    "stop_and_go": StopAndGo,
}


class Dynamic(Mixed):
    """The proportions, times what a policy makes of the feedback. Gates are respected: a factor opens none."""

    Options = DynamicOptions

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._policy = POLICIES[options.policy](options, workload)

    def base_shares(self) -> Mapping[str, float]:
        factors = self._policy.factors(self.step)
        return {task: share * factors[task] for task, share in super().base_shares().items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        return super().observe(feedback) + self._policy.observe(feedback)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "policy": self._policy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._policy.load_state_dict(state["policy"])
