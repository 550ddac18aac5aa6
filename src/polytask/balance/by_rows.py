"""The method that reads how many rows of the step each task has."""

from __future__ import annotations

from typing import ClassVar, Literal

from polytask.balance.balancer import BalanceOptions, Floats, Scale, Shape, Statistic, Weighting


class RowShares(Weighting):
    """A task's share of the step's rows."""

    def weigh(self, statistic: Statistic) -> Floats:
        return statistic.rows / statistic.rows.sum()


class RowsOptions(BalanceOptions):
    """Weights as the rows: what a schedule gives a task is what it weighs (mixing, Raffel et al. 2020, section 3.5.2).

    The loss of a task is a mean over its rows. So under the sum more rows make its gradient more exact and not greater;
    here they do both, as where each step draws one task in proportion.
    """

    shape: ClassVar[Shape] = "losses"
    scale: ClassVar[Scale] = "mean"
    reads_rows: ClassVar[bool] = True
    method: Literal["rows"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        return RowShares()
