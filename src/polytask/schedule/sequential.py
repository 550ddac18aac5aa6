"""Sequential: one task after another along what they need, each until its gate; earlier ones may be replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from polytask.options import Options
from polytask.schedule.schedule import Change, Feedback, Schedule, Stage, Workload


class SequentialOptions(Options):
    """Options of the sequential schedule."""

    strategy: Literal["sequential"]
    replay: float = Field(
        default=0.0, ge=0, lt=1, description="share of a step's rows from tasks of earlier stages, against forgetting"
    )
    freeze: int = Field(default=0, ge=0, description="encoder layers, from the lowest, frozen after the first stage")
    restart: bool = Field(default=True, description="whether the learning rate starts anew in each stage")


class Sequential(Schedule):
    """Stages in topological order, ties in the order of the file.

    A stage ends when its task's gate opens: at the latest after `gate.limit` passes through the task's rows, by default
    `train.epochs`; a task without a gate trains for `train.epochs`. Replayed rows are divided among the earlier tasks
    alike. An epoch is the running task's: as many steps as pass its rows once.
    """

    Options = SequentialOptions

    def __init__(self, options: SequentialOptions, workload: Workload) -> None:
        super().__init__(workload)
        self.options = options
        self.order = [task for wave in workload.waves for task in wave]
        self._number = 0
        self._first = 0

    def default_gate(self) -> float:
        return self.workload.epochs

    def _epoch_steps(self, number: int) -> int:
        own = self.workload.batch_rows * (1.0 - (self.options.replay if number else 0.0))
        return math.ceil(self.workload.sizes[self.order[number]] / own)

    def _stage_steps(self, number: int) -> int:
        own = self.workload.batch_rows * (1.0 - (self.options.replay if number else 0.0))
        gate = self.gates.gates[self.order[number]]
        # One step more than the exact number: shares become whole rows.
        return math.ceil(gate.limit * gate.size / own) + (1 if number and self.options.replay else 0)

    @property
    def limit(self) -> int:
        return self._first + sum(self._stage_steps(number) for number in range(self._number, len(self.order)))

    @property
    def stage(self) -> Stage:
        number = min(self._number, len(self.order) - 1)
        frozen = self.options.freeze if number else 0
        if self.options.restart:
            return Stage(self.order[number], self._first, self._stage_steps(number), frozen)
        return Stage(self.order[number], 0, self.limit, frozen)

    @property
    def steps_per_epoch(self) -> int:
        return self._epoch_steps(min(self._number, len(self.order) - 1))

    def shares(self) -> Mapping[str, float]:
        task, earlier = self.order[self._number], self.order[: self._number]
        replay = self.options.replay if earlier else 0.0
        return {task: 1.0 - replay, **({other: replay / len(earlier) for other in earlier} if replay else {})}

    def observe(self, feedback: Feedback) -> list[Change]:
        changes = super().observe(feedback)
        while self.finished is None and self.gates.gates[self.order[self._number]].is_open:
            changes.append(self._next_stage())
        return changes

    def _next_stage(self) -> Change:
        done = self.order[self._number]
        self._number += 1
        if self._number == len(self.order):
            self._number -= 1
            self.finished = "every stage is over"
            return Change("stage_end", {"task": done, "next": None})
        self._first = self.step
        return Change("stage_end", {"task": done, "next": self.order[self._number]})

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "number": self._number,
            "first": self._first,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._number, self._first = state["number"], state["first"]
