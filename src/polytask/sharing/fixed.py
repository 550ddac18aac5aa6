"""Global and independent: all tasks share everything, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from polytask.sharing.plan import Plan, global_plan, independent_plan
from polytask.sharing.sharing import Sharing, SharingOptions, TreeOptions


class GlobalOptions(SharingOptions):
    """One encoder for all tasks."""

    strategy: Literal["global"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        """Return the plan."""
        return global_plan(tasks, layers)

    def build(self, tasks: Sequence[str], layers: int) -> Sharing:
        return Sharing(self.plan(tasks, layers), heads=self.heads(tasks))


class IndependentOptions(TreeOptions):
    """One encoder per task; with lora or adapter, one encoder with adapters for each task in every layer."""

    strategy: Literal["independent"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def plan(self, tasks: Sequence[str], layers: int) -> Plan:
        return independent_plan(tasks, layers)
