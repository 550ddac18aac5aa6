"""The default: gradients of equal norm if several tasks train shared parameters together, otherwise the sum."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal

from polytask.balance.balancer import BalanceOptions, Shape, Weighting
from polytask.balance.by_gram import EqualNormsOptions
from polytask.balance.sum import SumOptions


class AutoOptions(BalanceOptions):
    """`equal_norms` if several tasks train shared parameters together, otherwise `sum`."""

    shape: ClassVar[Shape] = "nothing"
    method: Literal["auto"] = "auto"  # pyright: ignore[reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        raise AssertionError("auto is resolved before a run is built")


def resolve_balance(
    options: BalanceOptions, tasks: Sequence[str], *, together: int, sharing: Collection[str]
) -> tuple[BalanceOptions, str | None]:
    """Return the method that `auto` means, and the reason; another method is returned unchanged.

    Args:
        together: maximum number of tasks that train in one step.
        sharing: tasks that train any parameters together with other tasks.
    """
    if not isinstance(options, AutoOptions):
        return options, None
    if len(tasks) < 2:
        return SumOptions(), "one task"
    if together < 2:
        return SumOptions(), "one task per step"
    if not sharing:
        return SumOptions(), "no shared parameters are trained"
    return EqualNormsOptions(), f"{len(tasks)} tasks train shared parameters together"
