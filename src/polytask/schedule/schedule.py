"""What a schedule is: which tasks train in the next step, and on how many rows. Names and numbers only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polytask.options import Options


@dataclass(frozen=True)
class Step:
    """What one update trains on.

    Attributes:
        number: steps before this one.
        rows: rows to draw for each task; tasks that do not train are left out.
    """

    number: int
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Workload:
    """What a schedule knows of the data.

    Attributes:
        sizes: for each task the training rows that carry its label.
        sources: groups of tasks that read the same rows, with the number of those rows.
        batch_rows: rows that go through the encoder in one step.
    """

    sizes: Mapping[str, int]
    sources: tuple[tuple[tuple[str, ...], int], ...]
    batch_rows: int


@dataclass(frozen=True)
class Feedback:
    """What was measured: the mean losses of a step, or the dev scores of an evaluation."""

    step: int
    losses: Mapping[str, float]
    dev: Mapping[str, float] | None = None


class Schedule(ABC):
    """Decides who trains next; `state_dict` and `load_state_dict` make it resume in mid-stream."""

    Options: type[Options]

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps after which a run counts one epoch."""

    @abstractmethod
    def next(self) -> Step:
        """Return the next step."""

    @abstractmethod
    def observe(self, feedback: Feedback) -> None:
        """Take in what was measured."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return all that `next` depends on, JSON-ready."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
