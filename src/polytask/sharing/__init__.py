"""What the tasks share. A new strategy is one function and one row here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from polytask.options import Options
from polytask.sharing.plan import Plan, global_plan, independent_plan

SHARING: dict[str, Callable[[Sequence[str], int], Plan]] = {
    "global": global_plan,
    "independent": independent_plan,
}


class SharingOptions(Options):
    """Which strategy decides what the tasks share."""

    strategy: Literal["global", "independent"] = Field(
        default="global", description="global: one encoder for all tasks; independent: one encoder a task"
    )


__all__ = ["SHARING", "Plan", "SharingOptions"]
