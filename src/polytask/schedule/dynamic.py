"""Dynamic: like parallel, but a policy changes the proportions based on feedback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from polytask.schedule.parallel import Mixed
from polytask.schedule.policies import POLICIES, PolicyOptions
from polytask.schedule.schedule import Change, Feedback, Schedule, Workload


class DynamicOptions(PolicyOptions):
    """Options of the dynamic schedule."""

    strategy: Literal["dynamic"]  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]

    def build(self, workload: Workload) -> Schedule:
        return Dynamic(self, workload)


def relative(shares: Mapping[str, float]) -> dict[str, float]:
    """Scale shares to sum to 1; shares that are all 0 stay 0."""
    total = sum(shares.values()) or 1.0
    return {task: share / total for task, share in shares.items()}


class Dynamic(Mixed):
    """Multiplies the proportions by factors of a policy. Factors do not affect which gates are open.

    A task that others wait for gets at least its share without feedback; otherwise they might wait forever.
    """

    def __init__(self, options: DynamicOptions, workload: Workload) -> None:
        super().__init__(options, workload)
        self._policy = POLICIES[options.policy](options, workload)

    @property
    def reads_errors(self) -> bool:
        return self._policy.reads_errors

    def shares(self) -> Mapping[str, float]:
        usual, awaited = relative(super().shares()), self.gates.awaited()
        if awaited.issuperset(usual):
            return usual
        factors = self._policy.factors(self.step, tuple(usual))
        moved = relative({task: share * factors[task] for task, share in usual.items()})
        kept = {task: share if task in awaited else 0.0 for task, share in usual.items()}
        more = relative({task: max(0.0, share - kept[task]) for task, share in moved.items()})
        rest = 1.0 - sum(kept.values())
        return {task: share + rest * more[task] for task, share in kept.items()}

    def observe(self, feedback: Feedback) -> list[Change]:
        return super().observe(feedback) + self._policy.observe(feedback)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "policy": self._policy.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._policy.load_state_dict(state["policy"])
