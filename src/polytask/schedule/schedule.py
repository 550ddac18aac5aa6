"""The schedule: which tasks train in the next step, and on how many rows. Names and numbers only."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from polytask.errors import ConfigError
from polytask.options import Options
from polytask.schedule.gate import DevTable, GateOpening, Gates
from polytask.schedule.graph import waves
from polytask.schedule.rows import RowDealer
from polytask.tasks.class_errors import Floats
from polytask.tasks.gate import GateOptions
from polytask.terms import Portion, Stratum


class ScheduleOptions(Options, ABC):
    """The options of every schedule."""

    strategy: str = ""
    placement: Literal["mixed", "split"] = Field(
        default="mixed",
        description="with several processes: mixed gives each process rows of all tasks, split rows of as "
        "few tasks as possible; the update is the same",
    )

    @abstractmethod
    def build(self, workload: Workload) -> Schedule:
        """Build the schedule of a run. Raises ConfigError if the options do not fit it."""

    def require_layers(self, layers: int) -> None:
        """Raise ConfigError if an option names a layer that the encoder does not have."""


@dataclass(frozen=True)
class Step:
    """The rows of one update.

    Attributes:
        number: number of steps before this one.
        portions: rows to draw from each stratum; strata without rows are left out.
    """

    number: int
    portions: tuple[Portion, ...]

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows that each task trains on; tasks that do not train are left out."""
        counts: dict[str, int] = {}
        for portion in self.portions:
            for task, count in portion.rows.items():
                counts[task] = counts.get(task, 0) + count
        return counts


@dataclass(frozen=True)
class Workload:
    """What a schedule knows about the run.

    Attributes:
        sizes: for each task, the number of training rows with its label.
        sources: for each source, its strata: rows with labels of the same tasks.
        batch_size: rows that pass the encoder in one step.
        epochs: number of epochs of the run.
        metrics: the tasks' main metrics.
        needs: for each task, those that must be ready before it.
        gates: options of gates, for tasks that have any.
    """

    sizes: Mapping[str, int]
    sources: tuple[tuple[Stratum, ...], ...]
    batch_size: int
    epochs: float = 3.0
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    gates: Mapping[str, GateOptions] = field(default_factory=dict[str, GateOptions])

    @property
    def waves(self) -> list[list[str]]:
        """The tasks in waves: each needs only tasks of earlier ones."""
        return waves({task: self.needs.get(task, ()) for task in self.sizes})

    @property
    def rows(self) -> int:
        """Number of rows of all sources with a label."""
        return sum(stratum.rows for strata in self.sources for stratum in strata)

    @property
    def epoch_steps(self) -> int:
        """Number of steps for as many rows as have a label."""
        return math.ceil(self.rows / self.batch_size)


@dataclass(frozen=True)
class Feedback:
    """Measurements: the mean losses of a step, or the dev scores of an evaluation.

    Attributes:
        step: number of updates made.
        losses: mean loss of each task; empty after an evaluation.
        dev: every metric of every task.
        normalised: each task's main metric, scaled so that 0 is the majority baseline and 1 is perfect.
        errors: if the schedule reads them: each task's training errors of the step, between 0 and 1, summed by class,
            and the count of each class.
    """

    step: int
    losses: Mapping[str, float]
    dev: DevTable | None = None
    normalised: Mapping[str, float] = field(default_factory=dict[str, float])
    errors: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict[str, tuple[Floats, Floats]])


@dataclass(frozen=True)
class Stage:
    """A stage of the run with its own learning rate schedule.

    Attributes:
        name: name for display.
        first: its first step.
        steps: maximum number of steps.
        frozen: number of encoder layers that are frozen in it.
    """

    name: str
    first: int
    steps: int
    frozen: int = 0


@dataclass(frozen=True)
class Change:
    """A decision of the schedule for the event log: its name and its values."""

    event: str
    values: Mapping[str, Any]


class Schedule(ABC):
    """Decides which tasks train next; it can be resumed with `state_dict` and `load_state_dict`.

    Attributes:
        finished: reason why the run ends before its limit, or None.
    """

    def __init__(self, options: ScheduleOptions, workload: Workload) -> None:
        self.placement = options.placement
        self.workload = workload
        self._dealer = RowDealer(workload.sources, workload.sizes, workload.batch_size)
        self.step = 0
        self.finished: str | None = None
        self.gates = Gates(workload.sizes, workload.needs, workload.gates, default=self.default_gate())
        self._openings: list[GateOpening] = []

    def default_gate(self) -> float:
        """Return the epochs after which a task without a gate is ready: those of the run, divided by its waves."""
        return self.workload.epochs / len(self.workload.waves)

    @property
    def reads_errors(self) -> bool:
        """Whether the schedule needs the training errors of each step."""
        return False

    @property
    @abstractmethod
    def limit(self) -> int:
        """Maximum number of steps."""

    @property
    @abstractmethod
    def together(self) -> int:
        """Maximum number of tasks that train in one step."""

    @property
    @abstractmethod
    def stage(self) -> Stage:
        """The stage of the next step."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps per epoch."""
        return self.workload.epoch_steps

    @abstractmethod
    def shares(self) -> Mapping[str, float]:
        """Return each training task's share of the next step's rows, on any scale."""

    def draws_for_sure(self, task: str) -> bool:
        """Whether a task is certain to draw rows in the run, without simulating the schedule."""
        del task
        return False

    def describe(self) -> list[str]:
        """Describe, before the first step, which tasks train when."""
        needed = {need for needs in self.workload.needs.values() for need in needs}
        waits = [f"{task} waits for {', '.join(needs)}" for task, needs in self.workload.needs.items() if needs]
        return waits + [f"{task} is ready at {self.gates.gates[task].describe()}" for task in sorted(needed)]

    def next(self) -> Step:
        """Return the next step."""
        step = Step(self.step, self._dealer.deal(self.shares()))
        self.step += 1
        self._openings = self.gates.count(step.rows)
        return step

    def observe(self, feedback: Feedback) -> list[Change]:
        """Process measurements, and return the changes that they cause."""
        if feedback.dev is not None:
            return self._note(self.gates.evaluated(feedback.dev, feedback.normalised))
        openings, self._openings = self._openings, []
        return self._note(openings)

    def _note(self, openings: Sequence[GateOpening]) -> list[Change]:
        """Turn gate openings into changes; an opening with `stops` ends the run.

        Default gates that no task waits for are not reported.
        """
        for opening in openings:
            if opening.stops:
                self.finished = f"the gate of {opening.task!r} was not reached within its {opening.reason}"
        relevant = set(self.workload.gates).union(*self.workload.needs.values())
        reported = [opening for opening in openings if opening.task in relevant]
        return [Change("gate", {"task": opening.task, "reason": opening.reason}) for opening in reported]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `next` depends on, JSON-ready."""
        state = {"step": self.step, "finished": self.finished}
        return {**state, "gates": self.gates.state_dict(), "dealer": self._dealer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self.step, self.finished = state["step"], state["finished"]
        self.gates.load_state_dict(state["gates"])
        self._dealer.load_state_dict(state["dealer"])


def without_rows(schedule: Schedule, tasks: Sequence[str], steps: int) -> list[str]:
    """Return which of some tasks draw no row in the first steps, when every gate opens by its number of rows.

    None do if such a gate ends the run, since it may open earlier by a score.

    Args:
        schedule: a new schedule, which must not be used afterwards.
    """
    waiting = dict.fromkeys(tasks)
    for _ in range(steps):
        if not waiting or schedule.finished is not None:
            return []
        step = schedule.next()
        schedule.observe(Feedback(step.number, {}))
        for task in step.rows:
            waiting.pop(task, None)
    return list(waiting)


def require_reachable(schedule: Schedule) -> None:
    """Raise ConfigError if a task would never train when every gate opens by its number of rows.

    Args:
        schedule: a new schedule, which must not be used afterwards.
    """
    workload, steps = schedule.workload, schedule.limit
    unsure = (task for wave in workload.waves for task in wave if not schedule.draws_for_sure(task))
    waiting = without_rows(schedule, list(unsure), steps)
    for task in waiting:
        closed = [need for need in workload.needs.get(task, ()) if not schedule.gates.gates[need].is_open]
        reason, remedy = (
            (f"waits for {', '.join(closed)}", "give these a lower gate.epochs or gate.limit")
            if closed
            else ("draws no row", "raise train.epochs")
        )
        raise ConfigError(
            f"tasks.{task}: it would never train: in the run's {steps} steps it {reason}; {remedy}, or "
            "choose other schedule.proportions"
        )
