"""The method that reads the number of each task's rows in the step."""

from __future__ import annotations

from typing import ClassVar, Literal

from polytask.balance.balancer import BalanceOptions, Floats, Scale, Shape, Statistic, Weighting


class RowShares(Weighting):
    """A task's share of the step's rows."""

    def weigh(self, statistic: Statistic) -> Floats:
        return statistic.rows / statistic.rows.sum()


class RowsOptions(BalanceOptions):
    """Weights proportional to rows: the schedule's share is the weight (mixing, Raffel et al. 2020, section 3.5.2).

    The loss of a task is a mean over its rows. With the sum, more rows therefore make its gradient more exact but not
    larger; here they do both, as when each step draws one task with a probability proportional to its rows.
    """

    shape: ClassVar[Shape] = "losses"
    scale: ClassVar[Scale] = "mean"
    reads_rows: ClassVar[bool] = True
    method: Literal["rows"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        return RowShares()
