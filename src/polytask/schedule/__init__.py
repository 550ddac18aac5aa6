"""Schedules: when each task trains. A new schedule is one file and one row here."""

from __future__ import annotations

from polytask.registry import Table
from polytask.schedule.dynamic import DynamicOptions
from polytask.schedule.graph import waves
from polytask.schedule.parallel import Parallel, ParallelOptions, resolve_proportions
from polytask.schedule.rows import passed
from polytask.schedule.schedule import (
    Change,
    Feedback,
    Schedule,
    ScheduleOptions,
    Stage,
    Step,
    Workload,
    require_reachable,
    without_rows,
)
from polytask.schedule.sequential import SequentialOptions

_STRATEGIES: dict[str, type[ScheduleOptions]] = {
    "parallel": ParallelOptions,
    "sequential": SequentialOptions,
    "dynamic": DynamicOptions,
}
SCHEDULES = Table("schedule", _STRATEGIES, base=ScheduleOptions, tag="strategy")

__all__ = [
    "SCHEDULES",
    "Change",
    "Feedback",
    "Parallel",
    "ParallelOptions",
    "Schedule",
    "ScheduleOptions",
    "Stage",
    "Step",
    "Workload",
    "passed",
    "require_reachable",
    "resolve_proportions",
    "waves",
    "without_rows",
]
