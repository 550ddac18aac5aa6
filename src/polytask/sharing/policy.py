"""Sharing policies: they change the plan during training, based on measured numbers alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.sharing.head_evidence import HeadCut, HeadDecision
from polytask.sharing.plan import Part, Plan

# Shape (layers, tasks, tasks); a task that was not measured has nan in its row and column.
Gram: TypeAlias = NDArray[np.float64]
# Two groups of tasks at a level.
Cut: TypeAlias = tuple[int, Part, Part]


@dataclass(frozen=True)
class Decision:
    """A change of the plan, with the numbers that led to it.

    Attributes:
        action: split or merge.
        level: lowest layer that changes.
        groups: the two groups of tasks that are split or merged.
        similarity: mean cosine of the two groups' gradients at each layer that changes, from the lowest.
        measurements: number of measurements in the averages.
        parameters: number of parameters of the model after the change.
        plan: the plan from now on.
    """

    action: Literal["split", "merge"]
    level: int
    groups: tuple[Part, Part]
    similarity: tuple[float, ...]
    measurements: int
    parameters: int
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """Return the event's values."""
        return {
            "layer": self.level,
            "groups": [sorted(group) for group in self.groups],
            "similarity": [round(value, 4) for value in self.similarity],
            "measurements": self.measurements,
            "parameters": self.parameters,
            "plan": self.plan.to_json(),
        }


class SharingPolicy(ABC):
    """Changes the plan based on inner products of the tasks' gradients, at most once per measurement."""

    @abstractmethod
    def measures_at(self, step: int) -> bool:
        """Whether this update is measured."""

    @property
    @abstractmethod
    def wants_distances(self) -> bool:
        """Whether `observe` needs the distances between copies."""

    @abstractmethod
    def mergeable(self) -> list[Cut]:
        """Return the pairs of copies above the same part, which could be merged."""

    @abstractmethod
    def observe(self, gram: Gram, distances: Mapping[Cut, float] | None = None) -> Decision | None:
        """Process a measurement, and return the change of the plan, if any.

        Args:
            gram: inner products of the tasks' gradients at each layer, each task's in the copy that it uses.
            distances: distances between copies that could be merged, relative to their norm.
        """

    def head_cuts(self) -> list[HeadCut]:
        """Return the splits of shared heads that are on trial; a policy that keeps all heads has none."""
        return []

    def observe_heads(self, gains: Mapping[HeadCut, float]) -> HeadDecision | None:
        """Process a step of the trial heads, and return the split of a head, if any.

        Args:
            gains: by cut, the sum over rows of the loss under one head minus that under two heads.
        """
        del gains
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that later decisions depend on, JSON-ready."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
