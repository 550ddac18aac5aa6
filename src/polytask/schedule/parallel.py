"""Parallel: every step trains all tasks, in one mixed batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from polytask.options import Options
from polytask.schedule.proportions import PROPORTIONS, Apportioner
from polytask.schedule.schedule import Feedback, Schedule, Step, Workload


class ParallelOptions(Options):
    """Options of the parallel schedule."""

    strategy: Literal["parallel"] = "parallel"
    proportions: Literal["uniform", "proportional", "temperature"] = Field(
        default="proportional", description="how a step's rows are divided among the tasks"
    )
    temperature: float = Field(default=2.0, gt=0, description="for `temperature`: 1 is proportional, great is uniform")


class Parallel(Schedule):
    """Divides `batch_rows` encoder rows among the tasks; tasks that read the same rows read them together.

    An epoch is as many steps as it takes to pass `batch_rows` at a time through as many rows as all sources hold.
    Under `proportional` each task then sees each of its rows once; under the others small tasks see theirs more often.
    """

    Options = ParallelOptions

    def __init__(self, options: ParallelOptions, workload: Workload) -> None:
        self._workload = workload
        self._step = 0
        self._shares = PROPORTIONS[options.proportions](workload.sizes, options.temperature)
        # A source passes as many rows through the encoder as its most demanding task draws.
        self._most = {
            str(index): max(self._shares[task] for task in tasks) for index, (tasks, _) in enumerate(workload.sources)
        }
        self._sources = Apportioner(tuple(self._most))
        self._credits = {task: 0.0 for task in workload.sizes}

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(sum(rows for _, rows in self._workload.sources) / self._workload.batch_rows)

    def next(self) -> Step:
        rows: dict[str, int] = {}
        given = self._sources.split(self._workload.batch_rows, self._most)
        for index, (tasks, _) in enumerate(self._workload.sources):
            count, most = given[str(index)], self._most[str(index)]
            for task in tasks:
                wanted = self._credits[task] + count * self._shares[task] / most
                drawn = min(count, math.floor(wanted + 1e-9))
                self._credits[task] = wanted - drawn
                if drawn:
                    rows[task] = drawn
        step = Step(self._step, rows)
        self._step += 1
        return step

    def observe(self, feedback: Feedback) -> None:
        del feedback  # the proportions are fixed

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "sources": self._sources.credits.tolist(), "tasks": dict(self._credits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step = state["step"]
        self._sources.credits = np.array(state["sources"])
        self._credits = dict(state["tasks"])
