"""From shares of the tasks to the rows of a step: tasks that read the same rows read them together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polytask.schedule.proportions import Apportioner


class RowDealer:
    """Deals `batch_rows` encoder rows a step among the sources, and to each source's tasks their part of them.

    A source passes as many rows through the encoder as its most demanding task draws.
    """

    def __init__(self, sources: Sequence[tuple[Sequence[str], int]], tasks: Iterable[str], batch_rows: int) -> None:
        self._groups = [tuple(group) for group, _ in sources]
        self._batch_rows = batch_rows
        self._sources = Apportioner(tuple(str(index) for index in range(len(sources))))
        self._credits = {task: 0.0 for task in tasks}

    def deal(self, shares: Mapping[str, float]) -> dict[str, int]:
        """Return rows by task for shares of any scale; a task without a share draws nothing."""
        most = {str(index): max(shares.get(task, 0.0) for task in tasks) for index, tasks in enumerate(self._groups)}
        given = self._sources.split(self._batch_rows, most)
        rows: dict[str, int] = {}
        for index, tasks in enumerate(self._groups):
            count, top = given[str(index)], most[str(index)]
            for task in tasks:
                share = shares.get(task, 0.0)
                if not count or not share:
                    continue
                wanted = self._credits[task] + count * share / top
                drawn = min(count, math.floor(wanted + 1e-9))
                # Below 0, by rounding, it would cost the most demanding task a row.
                self._credits[task] = max(0.0, wanted - drawn)
                if drawn:
                    rows[task] = drawn
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"sources": list(self._sources.credits), "tasks": dict(self._credits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._sources.credits = list(state["sources"])
        self._credits = dict(state["tasks"])
