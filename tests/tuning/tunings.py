"""A search over one small task, and what of it does not depend on the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polytask as pt

Job = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]
RATE = {"train.learning_rate": [1e-9, 3e-3]}


def one_task(job: Job, rows: int = 32, **train: Any) -> dict[str, Any]:
    values = job(rows=rows, **{"epochs": 2, **train})
    values["tasks"] = {"topic": values["tasks"]["topic"]}
    return values


def ended(tuning: pt.Tuning) -> list[dict[str, Any]]:
    """What does not depend on the clock."""
    return [{key: value for key, value in found.items() if key != "seconds"} for found in tuning.trials]
