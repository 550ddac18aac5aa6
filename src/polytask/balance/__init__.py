"""How the losses of a step become one update. A new balancer is one file and one row here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polytask.balance.sum import WeightedSum
from polytask.options import Options

BALANCERS: dict[str, type[WeightedSum]] = {"sum": WeightedSum}


class BalanceOptions(Options):
    """Which method turns the tasks' losses into one."""

    method: Literal["sum"] = Field(default="sum", description="sum: the tasks' mean losses by their weights")


__all__ = ["BALANCERS", "BalanceOptions", "WeightedSum"]
