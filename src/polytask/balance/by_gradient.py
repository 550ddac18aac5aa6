"""The methods that read every element of the gradients. A new one is one class here, and one row of BALANCERS."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from polytask.balance.balancer import Aggregator, ComparingOptions, Scale, Shape
from polytask.errors import ConfigError


class GradientOptions(ComparingOptions):
    """A method that reads every element of the gradients.

    The word embeddings, whose gradients are not computed task by task, get the sum.
    """

    shape: ClassVar[Shape] = "gradients"


class GraddropOptions(GradientOptions):
    """Keeps one randomly chosen sign in each element (GradDrop; Chen et al. 2020, algorithm 1)."""

    draws_elements: ClassVar[bool] = True
    method: Literal["graddrop"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Aggregator:
        del tasks
        from torchjd.aggregation import GradDrop

        from polytask.balance.weighted import JdElementwise

        return JdElementwise(GradDrop())


class TrimmedMeanOptions(GradientOptions):
    """Mean without the extremes in each element (Yin et al. 2018, definition 2)."""

    every_task: ClassVar[bool] = True
    scale: ClassVar[Scale] = "mean"
    method: Literal["trimmed_mean"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    trim: int = Field(default=1, ge=1, description="number of largest and of smallest values to leave out")

    def build(self, tasks: tuple[str, ...]) -> Aggregator:
        del tasks
        from torchjd.aggregation import TrimmedMean

        from polytask.balance.weighted import JdElementwise

        return JdElementwise(TrimmedMean(self.trim))

    def check(self, tasks: tuple[str, ...]) -> None:
        if len(tasks) < 2 * self.trim + 1:
            problem = f"trim={self.trim} needs {2 * self.trim + 1} tasks or more; found {len(tasks)}"
            raise ConfigError(f"balance.method: trimmed_mean with {problem}")
