"""Parallel: every step trains all tasks that are ready, in one mixed batch."""

from __future__ import annotations

import math
from abc import ABC
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, field_validator

from polytask.options import require_each
from polytask.registry import NameOf
from polytask.schedule.gate import SLACK
from polytask.schedule.proportions import PROPORTIONS, MixingParams, auto_proportions
from polytask.schedule.rows import ROUNDING_ROWS, passed
from polytask.schedule.schedule import Schedule, ScheduleOptions, Stage, Workload

Proportions: TypeAlias = Annotated[str, NameOf(PROPORTIONS, "auto")]


AnyOptions = TypeVar("AnyOptions", bound=ScheduleOptions)


class MixedOptions(ScheduleOptions, ABC):
    """The options of schedules that train several tasks in a step."""

    proportions: Proportions | dict[str, float] = Field(
        default="auto",
        description="how a step's rows are divided among the tasks, or a weight for each task; auto: `temperature` "
        "if a task has more than twice the rows of another and none waits for others, otherwise `proportional`",
    )
    temperature: float = Field(
        default=2.0, gt=0, description="for `temperature`: 1 is proportional; higher values are more uniform"
    )
    cap: int = Field(default=10_000, ge=1, description="for `capped`: maximum number of a task's rows that is counted")

    @field_validator("proportions")
    @classmethod
    def _shares_are_shares(cls, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            negative = [task for task, share in value.items() if share < 0]
            if negative:
                raise ValueError(f"found {value[negative[0]]:g} for {negative[0]!r}; a share has to be 0 or greater")
            if sum(value.values()) <= 0:
                raise ValueError("found shares that sum to 0; at least one task has to train")
        return value


class ParallelOptions(MixedOptions):
    """Options of the parallel schedule."""

    strategy: Literal["parallel"] = "parallel"  # pyright: ignore[reportIncompatibleVariableOverride]

    def build(self, workload: Workload) -> Schedule:
        return Parallel(self, workload)


def resolve_proportions(options: AnyOptions, workload: Workload) -> tuple[AnyOptions, tuple[str, str] | None]:
    """Return the options with a way in place of proportions of `auto`, and the way and its reason for several tasks."""
    if not isinstance(options, MixedOptions) or options.proportions != "auto":
        return options, None
    way, reason = auto_proportions(workload.sizes, waits=any(workload.needs.values()))
    choice = (way, reason) if len(workload.sizes) > 1 else None
    return options.model_copy(update={"proportions": way}), choice


class Mixed(Schedule):
    """Divides `batch_size` encoder rows among the ready tasks; a row serves every task for which it has a label.

    An epoch is the number of steps for as many rows as have a label. With `proportional`, each of these rows is then
    used once; with the others, small tasks see theirs more often, and large ones less often.
    """

    def __init__(self, options: MixedOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        options, _ = resolve_proportions(options, workload)
        self.options = options
        if isinstance(options.proportions, dict):
            require_each("schedule.proportions", options.proportions, workload.sizes)

    @property
    def limit(self) -> int:
        return max(1, math.ceil(self.steps_per_epoch * (self.workload.epochs - SLACK)))

    @property
    def together(self) -> int:
        served = sorted((len(stratum.tasks) for strata in self.workload.sources for stratum in strata), reverse=True)
        return min(len(self.workload.sizes), sum(served[: self.workload.batch_size]))

    @property
    def stage(self) -> Stage:
        return Stage("all", 0, self.limit)

    def describe(self) -> list[str]:
        planned = self._planned()
        total = sum(planned.values())
        shown = ", ".join(f"{task} {100 * share / total:.1f} %" for task, share in planned.items())
        work, passed_rows = self.workload, passed(self.workload.sources, self.workload.sizes, planned)
        passes = {task: work.rows / passed_rows * share / work.sizes[task] for task, share in planned.items()}
        seen = ", ".join(f"{task} {times:.2f}" for task, times in passes.items())
        return [
            f"{self.limit} steps of {work.batch_size} rows; an epoch is {self.steps_per_epoch} steps, for the "
            f"{work.rows} rows that carry a label",
            f"shares of the labels once all are ready: {shown}",
            f"passes through its own rows in an epoch: {seen}",
            *super().describe(),
        ]

    def shares(self) -> Mapping[str, float]:
        ready = self.gates.ready()
        planned = self._planned()
        shares = {task: planned[task] for task in ready if planned[task] > 0}
        # Tasks that wait for one without a share would wait forever: train all ready tasks equally.
        return shares or dict.fromkeys(ready, 1.0)

    def _planned(self, at: float | None = None) -> Mapping[str, float]:
        """Return the shares of all tasks if they were ready, now or at a point of the run (0 to 1)."""
        chosen = self.options.proportions
        if isinstance(chosen, dict):
            return chosen
        progress = self.step / max(1, self.limit - 1) if at is None else at
        params = MixingParams(self.options.temperature, self.options.cap, min(1.0, progress))
        return PROPORTIONS[chosen](self.workload.sizes, params)


class Parallel(Mixed):
    """Proportions that are fixed, or change with time only."""

    def draws_for_sure(self, task: str) -> bool:
        needs, strata = self.workload.needs.get(task), self._strata_of.get(task, 0)
        return not needs and self._fewest.get(task, 0.0) * self.limit > ROUNDING_ROWS * (strata + 1)

    @cached_property
    def _strata_of(self) -> Counter[str]:
        """Number of strata with a task's label."""
        return Counter(task for strata in self.workload.sources for stratum in strata for task in stratum.tasks)

    @cached_property
    def _fewest(self) -> dict[str, float]:
        """Minimum average number of rows per step of each task, once all are ready: at the run's start or its end.

        In between it draws at least as many: the logarithm of an annealed share is concave in the exponent.
        """
        first, last = (self._rows_per_step(progress) for progress in (0.0, 1.0))
        return {task: min(rows, last[task]) for task, rows in first.items()}

    def _rows_per_step(self, progress: float) -> dict[str, float]:
        planned = self._planned(progress)
        rows = passed(self.workload.sources, self.workload.sizes, planned)
        return {task: self.workload.batch_size * share / rows for task, share in planned.items()}
