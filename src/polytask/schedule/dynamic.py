"""Dynamic: as parallel, and feedback moves the proportions; a policy is one class and one row of POLICIES."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from polytask.errors import ConfigError
from polytask.options import require_each
from polytask.reference_scores import read_scores, resolve_runs
from polytask.registry import NameOf, Table
from polytask.schedule.parallel import Mixed, MixedOptions
from polytask.schedule.schedule import Change, Feedback, Schedule, Workload
from polytask.tasks.class_errors import ClassErrors
from polytask.tasks.metric import smaller_is_better

# Filled below. A row is a class that is made from the options and the workload.
POLICIES: Table[type[Policy]] = Table("schedule policy", {})


class DynamicOptions(MixedOptions):
    """Options of the dynamic schedule."""

    strategy: Literal["dynamic"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    policy: Annotated[str, NameOf(POLICIES)] = Field(
        default="training_error",
        description="training_error: rows to tasks by their errors on training rows; loss_rate: to tasks that learn "
        "slowly; dev_gap: to those far from their target; bandit: to "
        "those whose loss falls most; stop_and_go: a task that stopped improving pauses until it gets worse",
    )
    window: int = Field(
        default=20, ge=1, le=100_000, description="loss_rate, bandit: updates over which a loss is averaged"
    )
    softmax_temperature: float = Field(
        default=2.0,
        gt=0,
        description="loss_rate: temperature of the softmax over the loss ratios; the greater, the more uniform",
    )
    targets: dict[str, float | str] | None = Field(
        default=None, description="dev_gap: target dev score by task: a number, or the folder of an earlier run"
    )
    error_power: float = Field(
        default=1.0, ge=0, description="training_error: exponent of the error; 0 treats all tasks alike"
    )
    explore: float = Field(
        default=0.3, gt=0, le=1, description="bandit: share of the probability that is spread uniformly over the tasks"
    )
    patience: int = Field(default=2, ge=1, description="stop_and_go: evaluations without improvement before a pause")
    least_gain: float = Field(
        default=0.001,
        ge=0,
        description="stop_and_go: smallest relative gain of the dev score that counts as an improvement",
    )
    resume_drop: float = Field(
        default=0.005,
        ge=0,
        description="stop_and_go: a paused task resumes once its dev score has dropped this far below its best, "
        "relative to it",
    )
    refresh: int = Field(
        default=4, ge=2, description="stop_and_go: a paused task still trains once in this many updates"
    )

    @field_validator("targets")
    @classmethod
    def _runs_are_relative_to_the_file(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401
        return resolve_runs(value, info)

    def build(self, workload: Workload) -> Schedule:
        return Dynamic(self, workload)


# The least factor, as a share of the greatest: a task that draws nothing is not measured, and would never come back.
LEAST = 0.05
# Bandit: what remains, after each reward, of the greatest progress seen; and the share of the weights that is shared.
MEMORY, SHARED = 0.8, 0.05


class Policy(ABC):
    """From feedback to factors of the tasks' shares."""

    # Whether it reads the training errors of each step.
    reads_errors: ClassVar[bool] = False

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        self.options = options
        self.tasks = tuple(workload.sizes)

    @abstractmethod
    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        """Return a factor of each ready task's share, 0 or greater, and not 0 for all."""

    @abstractmethod
    def observe(self, feedback: Feedback) -> list[Change]:
        """Take in what was measured."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""


def relative(shares: Mapping[str, float]) -> dict[str, float]:
    """Scale shares to sum to 1; where there are none, none are left."""
    total = sum(shares.values()) or 1.0
    return {task: share / total for task, share in shares.items()}


def at_least(factors: Mapping[str, float]) -> dict[str, float]:
    """Raise what is less than `LEAST` of the greatest."""
    least = LEAST * max(factors.values())
    return {task: max(factor, least) for task, factor in factors.items()}


class LossWindows:
    """Mean losses over windows of updates in which a task trained."""

    def __init__(self, tasks: Sequence[str], length: int) -> None:
        self._length = length
        self._open: dict[str, list[float]] = {task: [] for task in tasks}
        self._means: dict[str, list[float]] = {task: [] for task in tasks}

    def add(self, losses: Mapping[str, float]) -> list[str]:
        """Add a step's losses and return the tasks whose window is full now; the last two means are kept."""
        full: list[str] = []
        for task, loss in losses.items():
            self._open[task].append(loss)
            if len(self._open[task]) == self._length:
                self._means[task] = [*self._means[task][-1:], sum(self._open[task]) / self._length]
                self._open[task] = []
                full.append(task)
        return full

    def ratio(self, task: str) -> float | None:
        """Return the last mean over the one before, or None where there are not two, or nothing was left to learn."""
        means = self._means[task]
        return means[1] / means[0] if len(means) == 2 and means[0] > 1e-12 else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"open": {task: list(found) for task, found in self._open.items()}, "means": dict(self._means)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._open = {task: list(found) for task, found in state["open"].items()}
        self._means = {task: list(found) for task, found in state["means"].items()}


class LossRate(Policy):
    """Rows to tasks whose loss falls slowly: K softmax(r / T), r the ratio of a loss to the one before.

    Source: dynamic weight average, Liu et al. 2019, "End-to-End Multi-Task Learning with Attention"; there the losses
    are weighed by it and averaged over epochs, here the rows are dealt by it and windows of updates are averaged.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._windows = LossWindows(self.tasks, options.window)

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        found = {task: self._windows.ratio(task) for task in ready}
        ratios = {task: 1.0 if ratio is None else ratio for task, ratio in found.items()}
        most = max(ratios.values())
        return at_least(
            {task: math.exp((ratio - most) / self.options.softmax_temperature) for task, ratio in ratios.items()}
        )

    def observe(self, feedback: Feedback) -> list[Change]:
        self._windows.add(feedback.losses)
        return []

    def state_dict(self) -> dict[str, Any]:
        return self._windows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._windows.load_state_dict(state)


class TrainingError(Policy):
    """Rows in proportion to how much a task still errs on the rows that it trains on.

    A task that was learned, and one that knows its few rows by heart, leave their rows to the others. The error is the
    mean over a task's classes of what the right class lacks of probability 1: between 0 and 1 for every task type.
    Source: the priorities of dynamic task prioritization (Guo et al. 2018, section 3.1), there of losses and by a key
    performance index, here of rows and by the training error, which needs no dev rows.
    """

    reads_errors: ClassVar[bool] = True

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
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


class DevGap(Policy):
    """Rows in proportion to how far a task's main metric on dev is from its target, as a share of the target."""

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        targets = options.targets
        if not targets:
            raise ConfigError("schedule.targets: found nothing; dev_gap expects the score that each task is to reach")
        require_each("schedule.targets", targets, workload.sizes)
        for task, metric in workload.metrics.items():
            if smaller_is_better(metric):
                raise ConfigError(
                    f"schedule.targets: found {task!r}, which is scored by {metric}; dev_gap accepts metrics of which "
                    f"more is better; choose another tasks.{task}.metric, or another schedule.policy"
                )
        self._targets = read_scores(targets, workload.metrics, "schedule.targets")
        self._metrics = workload.metrics
        self._gaps = dict.fromkeys(self.tasks, 1.0)

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        del step
        # Not 0 where all targets are reached: then all are dealt alike.
        return at_least({task: max(self._gaps[task], 1e-9) for task in ready})

    def observe(self, feedback: Feedback) -> list[Change]:
        for task, scores in (feedback.dev or {}).items():
            target, found = self._targets[task], scores.get(self._metrics[task])
            far = 1.0 if found is None else (target - found) / max(abs(target), 1e-9)
            self._gaps[task] = min(1.0, max(0.0, far))
        return []

    def state_dict(self) -> dict[str, Any]:
        return {"gaps": dict(self._gaps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gaps = dict(state["gaps"])


class Bandit(Policy):
    """EXP3.S whose reward is learning progress: the tasks are arms, and the rows are dealt by the arms' probabilities.

    Source: Auer et al. 2002, "The Nonstochastic Multiarmed Bandit Problem", section 8: EXP3 whose weights are shared a
    little, for a best arm that changes; learning progress as the reward as in Graves et al. 2017, "Automated Curriculum
    Learning for Neural Networks". A window's reward is the relative fall of the loss, -1 to 1 when divided by the
    greatest seen lately (there by quantiles of all seen), and by the arm's probability: the progress for its rows.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
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


class StopAndGo(Policy):
    """A task that stopped improving on dev pauses, with a sparse refresh, and returns when it gets worse.

    Source: dynamic stop-and-go, Lu et al. 2020, "12-in-1: Multi-Task Vision and Language Representation Learning",
    section 3.3: stop after two epochs with less than 0.1 % gained, train every 4th iteration meanwhile, go after 0.5 %
    lost. Here it goes by evaluations, and by the normalised main metric. A task that went on is measured anew from
    where it fell to, and evaluations before a task's first step do not count. A task whose best
    score is that of its majority baseline has not begun to learn, and does not pause.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._best: dict[str, float] = {}
        self._since = dict.fromkeys(self.tasks, -1)  # the first evaluation is none without improvement
        self._pausing: set[str] = set()
        self._trained: set[str] = set()

    def factors(self, step: int, ready: Sequence[str]) -> Mapping[str, float]:
        # Where nobody improves all go on, until someone loses.
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


POLICIES.base = Policy
POLICIES.update(
    {
        "training_error": TrainingError,
        "loss_rate": LossRate,
        "dev_gap": DevGap,
        "bandit": Bandit,
        "stop_and_go": StopAndGo,
    }
)


class Dynamic(Mixed):
    """The proportions, times what a policy makes of the feedback. Gates are respected: a factor opens none.

    A task that others wait for gets no less than it would without feedback, or they might wait for ever.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._policy = POLICIES[options.policy](options, workload)

    @property
    def reads_errors(self) -> bool:
        return self._policy.reads_errors

    def shares(self) -> Mapping[str, float]:
        usual, awaited = relative(super().shares()), self.gates.awaited()
        if awaited.issuperset(usual):
            return usual
        factors = self._policy.factors(self.step, tuple(usual))
        moved = relative({task: share * factors[task] for task, share in usual.items()})
        kept = {task: share if task in awaited else 0.0 for task, share in usual.items()}
        more = relative({task: max(0.0, share - kept[task]) for task, share in moved.items()})
        rest = 1.0 - sum(kept.values())
        return {task: share + rest * more[task] for task, share in kept.items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        return super().observe(feedback) + self._policy.observe(feedback)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "policy": self._policy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._policy.load_state_dict(state["policy"])
