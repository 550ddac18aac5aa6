"""The weighted sum of the tasks' mean losses, which needs no statistic."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from polytask.balance.balancer import BalanceOptions, Floats, Shape, Statistic, Weighting


class SumOptions(BalanceOptions):
    """The weighted sum of the tasks' mean losses: a strong baseline (Kurin et al. 2022; Xin et al. 2022)."""

    shape: ClassVar[Shape] = "nothing"
    method: Literal["sum"] = "sum"  # pyright: ignore[reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        return _Ones()


class _Ones(Weighting):
    def weigh(self, statistic: Statistic) -> Floats:
        return np.ones(len(statistic.losses))
