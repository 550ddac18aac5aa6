"""The methods that read inner products of the tasks' gradients. A new one is a class here, and a row of BALANCERS."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from polytask.balance.balancer import GramOptions, Scale, Weighting
from polytask.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import nn


class WeightingOptions(GramOptions):
    """A method that is one of TorchJD's weightings."""

    @abstractmethod
    def weighting(self) -> nn.Module:
        """Build the weighting."""

    def first(self, tasks: tuple[str, ...]) -> int:
        """Return the index of the primary task, for weightings that have one."""
        del tasks
        return 0

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from polytask.balance.weighted import JdWeighting

        return JdWeighting(self.weighting(), self.first(tasks))


class UpgradOptions(WeightingOptions):
    """Each gradient projected so that it harms no task (UPGrad; Quinton and Rey 2024, section 3)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["upgrad"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import UPGradWeighting

        from polytask.balance.solvers import ConeProjector

        return UPGradWeighting(projector=ConeProjector())


class DualprojOptions(WeightingOptions):
    """The mean gradient projected so that it harms no task (Lopez-Paz and Ranzato 2017, section 3)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["dualproj"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import DualProjWeighting

        from polytask.balance.solvers import ConeProjector

        return DualProjWeighting(projector=ConeProjector())


class MgdaOptions(GramOptions):
    """The convex combination of the gradients with minimum norm (MGDA; Sener and Koltun 2018, equation 3)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["mgda"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from polytask.balance.solvers import shortest_mixture
        from polytask.balance.weighted import SolvedWeighting

        return SolvedWeighting(shortest_mixture)


class PcgradOptions(WeightingOptions):
    """Gradients without the components that conflict with other tasks' (PCGrad; Yu et al. 2020, algorithm 1)."""

    method: Literal["pcgrad"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import PCGradWeighting

        return PCGradWeighting()


class GradvacOptions(WeightingOptions):
    """Gradients rotated towards their running mean similarity (GradVac; Wang et al. 2021, algorithm 1)."""

    every_task: ClassVar[bool] = True
    method: Literal["gradvac"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    beta: float = Field(default=0.01, ge=0, le=1, description="update rate of the running target similarity")

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import GradVacWeighting

        return GradVacWeighting(self.beta)


class CagradOptions(GramOptions):
    """The mean gradient, moved towards the worst-off task (CAGrad; Liu et al. 2021a, algorithm 1)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["cagrad"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    c: float = Field(
        default=0.4, ge=0, description="radius of the search around the mean gradient, relative to its norm"
    )

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from polytask.balance.solvers import conflict_averse
        from polytask.balance.weighted import SolvedWeighting

        return SolvedWeighting(lambda gram: conflict_averse(gram, self.c))


class NashMtlOptions(GramOptions):
    """The Nash bargaining solution; its direction only (Navon et al. 2022, section 3)."""

    scale: ClassVar[Scale] = "direction"
    method: Literal["nash_mtl"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from polytask.balance.solvers import fair_share
        from polytask.balance.weighted import SolvedWeighting

        return SolvedWeighting(lambda gram: fair_share(gram, alpha=1.0))


class AlignedMtlOptions(WeightingOptions):
    """The gradients made orthogonal and equally long (Aligned-MTL; Senushkin et al. 2023, algorithm 1)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["aligned_mtl"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    length: Literal["min", "median", "rmse"] = Field(
        default="min", description="the common length: of the weakest principal component, the median, or the mean"
    )

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import AlignedMTLWeighting

        return AlignedMTLWeighting(scale_mode=self.length)


class ImtlGOptions(WeightingOptions):
    """An update with equal projections on all gradients (IMTL-G; Liu et al. 2021b, section 3.1)."""

    scale: ClassVar[Scale] = "mean"
    method: Literal["imtl_g"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import IMTLGWeighting

        return IMTLGWeighting()


class ConfigMethodOptions(GramOptions):
    """An update at equal angles to all gradients (ConFIG; Liu et al. 2024, equation 2)."""

    method: Literal["config"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from torchjd.aggregation import ConFIG

        from polytask.balance.weighted import AggregatorWeighting

        return AggregatorWeighting(ConFIG())


class FairgradOptions(GramOptions):
    """An alpha-fair update; its direction only (FairGrad; Ban and Ji 2024, equation 4)."""

    scale: ClassVar[Scale] = "direction"
    method: Literal["fairgrad"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    alpha: float = Field(
        default=2.0, gt=0, description="1 gives the Nash bargaining solution; greater values favour the worst-off task"
    )

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        del tasks
        from polytask.balance.solvers import fair_share
        from polytask.balance.weighted import SolvedWeighting

        return SolvedWeighting(lambda gram: fair_share(gram, self.alpha))


class PcdOptions(WeightingOptions):
    """A primary task, with guaranteed progress of the others (PCD; as in TorchJD 0.18, which cites its paper)."""

    every_task: ClassVar[bool] = True
    method: Literal["pcd"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    primary: str | None = Field(default=None, description="the primary task; by default the first of the file")
    tau: float = Field(default=0.02, ge=0, le=1, description="share of its own progress that every other task keeps")
    beta: float = Field(default=0.999, ge=0, lt=1, description="decay of the running gradient norms")

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import PCDWeighting

        return PCDWeighting(self.tau, self.beta)

    def first(self, tasks: tuple[str, ...]) -> int:
        return 0 if self.primary is None else tasks.index(self.primary)

    def check(self, tasks: tuple[str, ...]) -> None:
        if self.primary is not None and self.primary not in tasks:
            raise ConfigError(f"balance.primary: found {self.primary!r}; {nearest(self.primary, tasks)}")


class KrumOptions(WeightingOptions):
    """The mean of the gradients that are closest to the others (Multi-Krum; Blanchard et al. 2017, section 4)."""

    every_task: ClassVar[bool] = True
    scale: ClassVar[Scale] = "mean"
    method: Literal["krum"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    outliers: int = Field(default=0, ge=0, description="number of gradients that may be outliers")
    selected: int = Field(default=1, ge=1, description="number of gradients that are averaged")

    def weighting(self) -> nn.Module:
        from torchjd.aggregation import KrumWeighting

        return KrumWeighting(self.outliers, self.selected)

    def check(self, tasks: tuple[str, ...]) -> None:
        least = max(self.outliers + 3, self.selected)
        if len(tasks) < least:
            raise ConfigError(
                f"balance.method: krum with these options needs {least} tasks or more; found {len(tasks)}"
            )


class EqualNormsOptions(GramOptions):
    """Gradients of equal norm (DB-MTL; Lin et al. 2023, section 3.2), or longer for tasks with more errors.

    The norms are running means. DB-MTL's logarithm of the losses is left out, since it cancels out if gradients are
    made equally long. The gradient of a task that has been learned is mostly noise and should not be as long as that of
    one that has not: `priority` uses the training errors (Dynamic Task Prioritization; Guo et al. 2018, section 3.1). A
    task's own `weight` multiplies the norm of its gradient.
    """

    reads_errors: ClassVar[bool] = True
    method: Literal["equal_norms"] = "equal_norms"  # pyright: ignore[reportIncompatibleVariableOverride]
    every: int = Field(
        default=8,
        ge=1,
        description="updates between two comparisons of the gradients; the weights stay the same in between",
    )
    decay: float = Field(default=0.5, ge=0, lt=1, description="decay of the running mean of the squared norms")
    priority: float = Field(
        default=1.0,
        ge=0,
        description="exponent of a task's training error in the norm of its gradient; 0 treats all tasks equally",
    )

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from polytask.balance.weighted import EqualNorms

        return EqualNorms(len(tasks), self.decay, self.priority)


class GradnormOptions(GramOptions):
    """Learned weights: the gradient norms follow the tasks' training rates (GradNorm; Chen et al. 2018, section 3)."""

    every_task: ClassVar[bool] = True
    method: Literal["gradnorm"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    measure: Literal["all", "top"] = Field(
        default="top", description="shared layers whose gradients are compared; as in the paper, the highest one"
    )
    alpha: float = Field(default=1.5, ge=0, description="strength of the pull towards a common training rate")
    rate: float = Field(default=0.025, gt=0, description="learning rate of the weights (Adam)")

    def build(self, tasks: tuple[str, ...]) -> Weighting:
        from polytask.balance.weighted import GradNorm

        return GradNorm(len(tasks), self.alpha, self.rate)
