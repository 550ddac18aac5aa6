"""When each task trains. A new schedule is one file and one row here."""

from __future__ import annotations

from polytask.schedule.graph import waves
from polytask.schedule.parallel import Parallel, ParallelOptions
from polytask.schedule.schedule import Feedback, Schedule, Step, Workload

SCHEDULES: dict[str, type[Parallel]] = {"parallel": Parallel}

__all__ = ["SCHEDULES", "Feedback", "Parallel", "ParallelOptions", "Schedule", "Step", "Workload", "waves"]
