"""Sequential: one task after another in topological order, each until its gate opens; earlier ones may be replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from polytask.errors import ConfigError
from polytask.schedule.gate import SLACK
from polytask.schedule.graph import in_order
from polytask.schedule.rows import ROUNDING_ROWS, passed
from polytask.schedule.schedule import Change, Feedback, Schedule, ScheduleOptions, Stage, Workload


class SequentialOptions(ScheduleOptions):
    """Options of the sequential schedule."""

    strategy: Literal["sequential"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    replay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of a step's rows that comes from tasks of earlier stages, to reduce forgetting",
    )
    freeze: int = Field(default=0, ge=0, description="number of lowest encoder layers to freeze after the first stage")
    restart: bool = Field(default=True, description="restart the learning rate schedule in each stage")

    def build(self, workload: Workload) -> Schedule:
        return Sequential(self, workload)

    def require_layers(self, layers: int) -> None:
        if self.freeze > layers:
            raise ConfigError(
                f"schedule.freeze: found {self.freeze} layers; the encoder has {layers}, accepted: 0 to {layers}"
            )


class Sequential(Schedule):
    """Stages in topological order, ties in the order of the file.

    A stage ends when its task's gate opens: at the latest after `gate.limit` epochs over the task's rows, by default
    `train.epochs`; a task without a gate trains for `train.epochs`. Replayed rows are divided equally among the earlier
    tasks. An epoch is that of the current task: the number of steps for its rows.
    """

    def __init__(self, options: SequentialOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self.options = options
        self.order = in_order({task: workload.needs.get(task, ()) for task in workload.sizes})
        self._number = 0
        self._first = 0

    def default_gate(self) -> float:
        return self.workload.epochs

    def _stage_shares(self, number: int) -> dict[str, float]:
        """Return the shares of a stage."""
        task, earlier = self.order[number], self.order[:number]
        if not earlier or not self.options.replay:
            return {task: 1.0}
        return {task: 1.0 - self.options.replay, **dict.fromkeys(earlier, self.options.replay / len(earlier))}

    def _own_rows(self, number: int) -> float:
        """Return the average number of rows per step of a stage's task; a row may serve several tasks."""
        shares = self._stage_shares(number)
        rows = passed(self.workload.sources, self.workload.sizes, shares)
        return self.workload.batch_size * shares[self.order[number]] / rows

    def _stage_steps(self, number: int) -> int:
        task = self.order[number]
        gate = self.gates.gates[task]
        # Shares are rounded to whole rows: with replay, the stage's task may be a few rows short at the end.
        strata = sum(task in stratum.tasks for strata in self.workload.sources for stratum in strata)
        late = ROUNDING_ROWS * strata if len(self._stage_shares(number)) > 1 else 0
        return max(1, math.ceil(((gate.latest - SLACK) * gate.size + late) / self._own_rows(number)))

    @property
    def limit(self) -> int:
        return self._first + sum(self._stage_steps(number) for number in range(self._number, len(self.order)))

    @property
    def together(self) -> int:
        return len(self.order) if self.options.replay else 1

    @property
    def stage(self) -> Stage:
        name, frozen = self.order[self._number], self.options.freeze if self._number else 0
        if self.options.restart:
            return Stage(name, self._first, self._stage_steps(self._number), frozen)
        return Stage(name, 0, self.limit, frozen)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.workload.sizes[self.order[self._number]] / self._own_rows(self._number) - SLACK)

    def describe(self) -> list[str]:
        stages = [
            f"stage {number + 1}: {task}, until {self.gates.gates[task].describe()} (at most "
            f"{self._stage_steps(number)} steps)"
            for number, task in enumerate(self.order)
        ]
        count = self.options.freeze
        frozen = f"from stage 2 on, the embeddings and the lowest {count} layers do not train"
        return [*stages, frozen] if count else stages

    def shares(self) -> Mapping[str, float]:
        return self._stage_shares(self._number)

    def observe(self, feedback: Feedback) -> list[Change]:
        changes = super().observe(feedback)
        while self.finished is None and self.gates.gates[self.order[self._number]].is_open:
            changes.append(self._next_stage())
        return changes

    def _next_stage(self) -> Change:
        done = self.order[self._number]
        if self._number + 1 == len(self.order):
            self.finished = "every stage is over"
            return Change("stage_end", {"task": done, "next": None})
        self._number += 1
        self._first = self.step
        return Change("stage_end", {"task": done, "next": self.order[self._number]})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "number": self._number, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._number, self._first = state["number"], state["first"]
