"""The options of the mixing methods: several towers above a shared trunk, combined by gates or cross-stitch units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from polytask.errors import ConfigError
from polytask.sharing.plan import global_plan
from polytask.sharing.sharing import Mixing, Sharing, SharingOptions, require_layer


class MixingOptions(SharingOptions, ABC):
    """Options of every mixing method: the layer from which it replaces the encoder's layers."""

    from_layer: int | None = Field(default=None, ge=1, description="lowest layer that is replaced, from 1")

    def lowest(self, layers: int) -> int:
        """Return the default of the lowest replaced layer: the upper third is replaced."""
        return max(1, layers - max(1, layers // 3) + 1)

    @abstractmethod
    def own(self) -> dict[str, float]:
        """Return the method's own options."""

    def build(self, tasks: Sequence[str], layers: int) -> Sharing:
        first = self.from_layer if self.from_layer is not None else self.lowest(layers)
        require_layer(first, layers, "sharing.from_layer")
        mixing = Mixing(self.strategy, first, self.own())
        return Sharing(global_plan(tasks, first - 1), mixing=mixing, heads=self.heads(tasks))


class MmoeOptions(MixingOptions):
    """Mixture of experts with one gate per task (Ma et al. 2018)."""

    strategy: Literal["mmoe"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    experts: int = Field(default=4, ge=1, le=64, description="copies of the replaced layers, read by every task")

    def own(self) -> dict[str, float]:
        return {"experts": self.experts}


class PleOptions(MixingOptions):
    """Progressive layered extraction: shared and task experts in every replaced layer (Tang et al. 2020)."""

    strategy: Literal["ple"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    shared_experts: int = Field(default=1, ge=0, le=64, description="copies of each replaced layer, read by every task")
    task_experts: int = Field(default=1, ge=0, le=64, description="copies of each replaced layer for each task")

    def own(self) -> dict[str, float]:
        if self.shared_experts + self.task_experts == 0:
            raise ConfigError("sharing: found no shared_experts and no task_experts; a gate needs at least one expert")
        return {"shared_experts": self.shared_experts, "task_experts": self.task_experts}


class CrossStitchOptions(MixingOptions):
    """One tower per task, mixed after every layer by learned units (Misra et al. 2016)."""

    strategy: Literal["cross_stitch"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]
    own_weight: float = Field(default=0.9, gt=0, le=1, description="initial weight of a task's own tower")
    rate: float = Field(default=100.0, gt=0, description="learning rate of the units, relative to the encoder's")

    def own(self) -> dict[str, float]:
        return {"own_weight": self.own_weight, "rate": self.rate}
