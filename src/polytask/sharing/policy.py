"""A sharing policy: what changes the plan while a model trains, on measured numbers alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.sharing.head_evidence import HeadCut, HeadDecision
from polytask.sharing.plan import Part, Plan

# Layers x tasks x tasks; a task that was not measured has nan in its row and column.
Gram: TypeAlias = NDArray[np.float64]
# Two groups of tasks at a level.
Cut: TypeAlias = tuple[int, Part, Part]


@dataclass(frozen=True)
class Decision:
    """A change of the plan, with the numbers that led to it.

    Attributes:
        action: split or merge.
        level: the lowest layer that changes.
        groups: the two groups of tasks that part or meet.
        similarity: mean cosine of the two groups' gradients at each layer that changes, the lowest first.
        measurements: how many went into the averages.
        parameters: of the model, after the change.
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
    """Watches the inner products of the tasks' gradients and decides, at most one change a measurement."""

    @abstractmethod
    def measures_at(self, step: int) -> bool:
        """Whether the update of this number is measured."""

    @property
    @abstractmethod
    def wants_distances(self) -> bool:
        """Whether the distances between copies are asked for."""

    @abstractmethod
    def mergeable(self) -> list[Cut]:
        """Return the pairs of copies that stand on one part and could be joined."""

    @abstractmethod
    def observe(self, gram: Gram, distances: Mapping[Cut, float] | None = None) -> Decision | None:
        """Take in a measurement and say what changes, if anything.

        Args:
            gram: inner products of the tasks' gradients at each layer, each task's in the copy that it uses.
            distances: between copies that could be joined, relative to their length.
        """

    def head_cuts(self) -> list[HeadCut]:
        """Return the ways to divide a shared head that are on trial; a policy that keeps all heads has none."""
        return []

    def observe_heads(self, gains: Mapping[HeadCut, float]) -> HeadDecision | None:
        """Take in what a step's rows say of the heads on trial, and say which head is divided, if any.

        Args:
            gains: by cut the sum over rows of the loss under one head less that under two.
        """
        del gains
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that later decisions depend on, JSON-ready."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
