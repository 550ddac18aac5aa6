"""Losses over windows of updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class LossWindows:
    """Mean losses over windows of updates in which a task trained."""

    def __init__(self, tasks: Sequence[str], length: int) -> None:
        self._length = length
        self._open: dict[str, list[float]] = {task: [] for task in tasks}
        self._means: dict[str, list[float]] = {task: [] for task in tasks}

    def add(self, losses: Mapping[str, float]) -> list[str]:
        """Add a step's losses, and return the tasks whose window is now full; the last two means are kept."""
        full: list[str] = []
        for task, loss in losses.items():
            self._open[task].append(loss)
            if len(self._open[task]) == self._length:
                self._means[task] = [*self._means[task][-1:], sum(self._open[task]) / self._length]
                self._open[task] = []
                full.append(task)
        return full

    def ratio(self, task: str) -> float | None:
        """Return the last mean divided by the previous one; None without two means, or if the loss was 0."""
        means = self._means[task]
        return means[1] / means[0] if len(means) == 2 and means[0] > 1e-12 else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"open": {task: list(losses) for task, losses in self._open.items()}, "means": dict(self._means)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._open = {task: list(losses) for task, losses in state["open"].items()}
        self._means = {task: list(means) for task, means in state["means"].items()}
