"""The methods that read the tasks' losses. A new one is one class here, and one row of BALANCERS."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from polytask.balance.balancer import BalanceOptions, Scale, Shape, Weighting

if TYPE_CHECKING:
    from torch import Tensor


class LossOptions(BalanceOptions):
    """A method that reads the tasks' losses."""

    shape: ClassVar[Shape] = "losses"


class ScalarizerOptions(LossOptions):
    """A method that is one of TorchJD's stateless scalarizers."""

    @abstractmethod
    def scalarize(self, losses: Tensor) -> Tensor:
        """Return one number from the losses."""

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from polytask.balance.scalarized import Scalarized

        return Scalarized(self.scalarize)


class UncertaintyOptions(LossOptions):
    """A learned variance per task: loss times exp(-s) / 2 (Kendall et al. 2018, section 3.2)."""

    every_task: ClassVar[bool] = True
    method: Literal["uncertainty"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    rate: float = Field(default=0.01, gt=0, description="learning rate of the variances (Adam)")

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from torchjd.scalarization import UW

        from polytask.balance.scalarized import LearnedScalarizer

        return LearnedScalarizer(UW(len(tasks)), self.rate)


class ImtlLOptions(LossOptions):
    """A learned scale per task: loss times exp(s), minus s (IMTL-L; Liu et al. 2021b, section 3.2)."""

    every_task: ClassVar[bool] = True
    method: Literal["imtl_l"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    rate: float = Field(default=0.01, gt=0, description="learning rate of the scales (Adam)")

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from torchjd.scalarization import IMTLL

        from polytask.balance.scalarized import LearnedScalarizer

        return LearnedScalarizer(IMTLL(len(tasks)), self.rate)


class DwaOptions(LossOptions):
    """Greater weights for losses that fall slowly (dynamic weight average; Liu et al. 2019)."""

    every_task: ClassVar[bool] = True
    method: Literal["dwa"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    temperature: float = Field(
        default=2.0, gt=0, description="temperature of the softmax; higher values give more uniform weights"
    )
    window: int = Field(
        default=20, ge=1, le=100_000, description="updates over which a loss is averaged (an epoch in the paper)"
    )

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from torchjd.scalarization import DWA

        from polytask.balance.scalarized import DynamicWeightAverage

        return DynamicWeightAverage(DWA(self.temperature), self.window)


class FamoOptions(LossOptions):
    """Equal relative rates for all losses; computes the step's losses twice (FAMO; Liu et al. 2023, algorithm 1)."""

    every_task: ClassVar[bool] = True
    scale: ClassVar[Scale] = "mean"
    method: Literal["famo"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    rate: float = Field(default=0.025, gt=0, description="learning rate of the weights (Adam)")
    decay: float = Field(default=0.001, ge=0, description="weight decay of the weights")

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from torchjd.scalarization import FAMO

        from polytask.balance.scalarized import Famo

        return Famo(FAMO(len(tasks), lr=self.rate, weight_decay=self.decay), len(tasks))


class StchOptions(ScalarizerOptions):
    """A smooth maximum of the losses (smooth Tchebycheff; Lin et al. 2024, section 3)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["stch"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    mu: float = Field(default=0.5, gt=0, description="smoothing; near 0 only the largest loss counts")

    def scalarize(self, losses: Tensor) -> Tensor:
        import torch
        from torchjd.scalarization import STCH

        return STCH(self.mu, torch.ones_like(losses))(losses)


class GeometricMeanOptions(ScalarizerOptions):
    """The geometric mean of the losses (Chennupati et al. 2019, section 3.2)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["geometric_mean"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def scalarize(self, losses: Tensor) -> Tensor:
        from torchjd.scalarization import GeometricMean

        return GeometricMean()(losses)


class RandomOptions(ScalarizerOptions):
    """Random weights in every step, as a baseline (Lin et al. 2022, algorithm 2)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["random"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def scalarize(self, losses: Tensor) -> Tensor:
        from torchjd.scalarization import Random

        return Random()(losses)


class CosmosOptions(ScalarizerOptions):
    """The sum minus a reward for equal losses (COSMOS; Ruchte and Grabocka 2021, section 4)."""

    method: Literal["cosmos"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    reward: float = Field(
        default=1.0, ge=0, description="weight of the cosine similarity between the losses and equal losses"
    )

    def scalarize(self, losses: Tensor) -> Tensor:
        import torch
        from torchjd.scalarization import COSMOS

        return COSMOS(self.reward, torch.ones_like(losses))(losses)


class PbiOptions(ScalarizerOptions):
    """The losses' common part plus a penalty on their differences (PBI; Zhang and Li 2007, section III)."""

    method: Literal["pbi"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    penalty: float = Field(default=1.0, ge=0, description="weight of the distance from equal losses")

    def scalarize(self, losses: Tensor) -> Tensor:
        import torch
        from torchjd.scalarization import PBI

        return PBI(self.penalty, torch.ones_like(losses))(losses)
