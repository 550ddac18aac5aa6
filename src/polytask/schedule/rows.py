"""From shares of the tasks to the rows of a step: the rows of a stratum serve all of its tasks.

A task's share is divided among the strata with its label, in proportion to their rows, so the task sees all of its rows
equally often. A stratum passes as many rows through the encoder as its most demanding task draws, and the other tasks
train on some of these. This is the minimum: rows that pass for one task need not pass again for another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.schedule.proportions import Apportioner
from polytask.terms import Portion, Stratum

# Rows per stratum that a task's running total may lag behind its share since the shares changed: two in the stratum
# itself, one in the task.
ROUNDING_ROWS = 3
# The strata of each source.
Strata: TypeAlias = Sequence[Sequence[Stratum]]
Sizes: TypeAlias = Mapping[str, int]


class _SourceDealer:
    """Divides the rows of one source among its strata, and those of each stratum among its tasks."""

    def __init__(self, strata: Sequence[Stratum], sizes: Sizes) -> None:
        self._names = tuple(str(number) for number in range(len(strata)))
        reading = {task for stratum in strata for task in stratum.tasks}
        self._tasks = [task for task in sizes if task in reading]
        places = {task: place for place, task in enumerate(self._tasks)}
        # Shape (strata, tasks): the fraction of a task's rows that is in the stratum.
        self._parts = np.zeros((len(strata), len(places)))
        for number, stratum in enumerate(strata):
            for task in stratum.tasks:
                self._parts[number, places[task]] = stratum.rows / sizes[task]
        self._order = Apportioner(self._names, cycle=sum(stratum.rows for stratum in strata))
        self._owed = np.zeros_like(self._parts)

    def total_demand(self, shares: Mapping[str, float]) -> float:
        """Return the sum over strata of the most demanding task's demand."""
        if len(self._names) == 1:  # with a thousand sources, arrays of one number would take most of a step's time
            parts = zip(self._parts[0].tolist(), self._tasks, strict=True)
            return max(part * shares.get(task, 0.0) for part, task in parts)
        return float(self.demands(shares).max(axis=1).sum())

    def demands(self, shares: Mapping[str, float]) -> NDArray[np.float64]:
        """Return each task's demand on each stratum, of shape (strata, tasks)."""
        return self._parts * np.array([shares.get(task, 0.0) for task in self._tasks])

    def deal(self, number: int, count: int, demands: NDArray[np.float64]) -> list[Portion]:
        """Return the portions of `count` rows of this source.

        Args:
            number: index of the source.
            count: rows to draw.
            demands: the tasks' demands, from `demands`.
        """
        highest = demands.max(axis=1)
        rows_of_strata = self._order.split(count, dict(zip(self._names, highest.tolist(), strict=True)))
        portions: list[Portion] = []
        for stratum, passes in enumerate(rows_of_strata.values()):
            rows = self._deal_stratum(stratum, passes, demands[stratum]) if passes else {}
            if rows:
                portions.append(Portion(number, stratum, rows))
        return portions

    def _deal_stratum(self, stratum: int, passes: int, demands: NDArray[np.float64]) -> dict[str, int]:
        owed, highest, rows = self._owed[stratum], demands.max(), dict[str, int]()
        for place, task in enumerate(self._tasks):
            if not demands[place]:
                continue
            wanted = owed[place] + passes * demands[place] / highest
            drawn = min(passes, math.floor(wanted + 1e-9))
            # Not below 0 by rounding, which would cost the most demanding task a row.
            owed[place] = max(0.0, wanted - drawn)
            if drawn:
                rows[task] = drawn
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        owed = [[*map(int, place), float(self._owed[*place])] for place in np.argwhere(self._owed)]
        return {"strata": self._order.state_dict(), "tasks": owed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._order.load_state_dict(state["strata"])
        self._owed = np.zeros_like(self._parts)
        for stratum, place, credit in state["tasks"]:
            self._owed[stratum, place] = credit


class RowDealer:
    """Divides `batch_size` encoder rows per step among the sources, and those of a source among its strata."""

    def __init__(self, sources: Strata, sizes: Sizes, batch_size: int) -> None:
        self._dealers = [_SourceDealer(strata, sizes) for strata in sources]
        self._batch_size = batch_size
        self._sources = Apportioner(tuple(str(number) for number in range(len(sources))))

    def deal(self, shares: Mapping[str, float]) -> tuple[Portion, ...]:
        """Return the portions of a step for shares of any scale; a task without a share draws nothing."""
        demands = {str(number): dealer.total_demand(shares) for number, dealer in enumerate(self._dealers)}
        rows = self._sources.split(self._batch_size, demands)
        portions = [
            portion
            for number, dealer in enumerate(self._dealers)
            if rows[str(number)]
            for portion in dealer.deal(number, rows[str(number)], dealer.demands(shares))
        ]
        return tuple(portions)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        dealers = [dealer.state_dict() for dealer in self._dealers]
        return {"sources": self._sources.state_dict(), "dealers": dealers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._sources.load_state_dict(state["sources"])
        for dealer, saved in zip(self._dealers, state["dealers"], strict=True):
            dealer.load_state_dict(saved)


def passed(sources: Strata, sizes: Sizes, shares: Mapping[str, float]) -> float:
    """Return the encoder rows needed to give each task its number of rows, using all of its rows equally."""
    return sum(
        max(shares.get(task, 0.0) * (stratum.rows / sizes[task]) for task in stratum.tasks)
        for strata in sources
        for stratum in strata
    )
