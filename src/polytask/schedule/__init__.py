"""When each task trains. A new schedule is one file and one row here."""

from __future__ import annotations

from polytask.schedule.dynamic import Dynamic
from polytask.schedule.graph import waves
from polytask.schedule.parallel import Parallel, ParallelOptions
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
)
from polytask.schedule.sequential import Sequential

SCHEDULES: dict[str, type[Schedule]] = {
    "parallel": Parallel,
    "sequential": Sequential,
    "dynamic": Dynamic,
}

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
    "waves",
]
