"""The weighted sum of the tasks' mean losses: a strong baseline (Kurin et al. 2022; Xin et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightedSum:
    """Losses to weights: each task's weight is the one in the configuration, whatever the losses are."""

    weights: Mapping[str, float]

    def weigh(self, task: str) -> float:
        """Return the weight of a task's mean loss."""
        return self.weights[task]
