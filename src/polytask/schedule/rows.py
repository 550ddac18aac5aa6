"""From shares of the tasks to the rows of a step: the rows of a stratum serve all of its tasks.

A task's share goes to the strata that carry its label, to each by its rows: so the task sees all of its rows equally
often. A stratum passes as many rows through the encoder as its most demanding task draws of it, and the others train
on their part of these. That is the least: what a stratum passes for one task it need not pass for another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.schedule.proportions import Apportioner
from polytask.terms import Portion, Stratum

# Rows that a task's running total may lag behind its share since the shares changed, in each stratum: two in the
# stratum itself, one in the task.
ROUNDING_ROWS = 3
# The strata of each source.
Strata: TypeAlias = Sequence[Sequence[Stratum]]
Sizes: TypeAlias = Mapping[str, int]


class _SourceDealer:
    """Deals the rows of one source among its strata, and of each stratum among its tasks."""

    def __init__(self, strata: Sequence[Stratum], sizes: Sizes) -> None:
        self._names = tuple(str(number) for number in range(len(strata)))
        reading = {task for stratum in strata for task in stratum.tasks}
        self._tasks = [task for task in sizes if task in reading]
        places = {task: place for place, task in enumerate(self._tasks)}
        # Strata x tasks: which part of a task's rows the stratum holds.
        self._parts = np.zeros((len(strata), len(places)))
        for number, stratum in enumerate(strata):
            for task in stratum.tasks:
                self._parts[number, places[task]] = stratum.rows / sizes[task]
        self._order = Apportioner(self._names, cycle=sum(stratum.rows for stratum in strata))
        self._owed = np.zeros_like(self._parts)

    def asked(self, shares: Mapping[str, float]) -> float:
        """Return what the most demanding task asks of each stratum, added up."""
        if len(self._names) == 1:  # of a thousand sources, arrays of one number would take most of a step's time
            parts = zip(self._parts[0].tolist(), self._tasks, strict=True)
            return max(part * shares.get(task, 0.0) for part, task in parts)
        return float(self.demands(shares).max(axis=1).sum())

    def demands(self, shares: Mapping[str, float]) -> NDArray[np.float64]:
        """Return strata x tasks: what each task asks of each stratum."""
        return self._parts * np.array([shares.get(task, 0.0) for task in self._tasks])

    def deal(self, number: int, count: int, demands: NDArray[np.float64]) -> list[Portion]:
        """Return the portions of `count` rows of this source, the one of that number."""
        most = demands.max(axis=1)
        given = self._order.split(count, dict(zip(self._names, most.tolist(), strict=True)))
        found: list[Portion] = []
        for stratum, passes in enumerate(given.values()):
            rows = self._deal_stratum(stratum, passes, demands[stratum]) if passes else {}
            if rows:
                found.append(Portion(number, stratum, rows))
        return found

    def _deal_stratum(self, stratum: int, passes: int, demands: NDArray[np.float64]) -> dict[str, int]:
        owed, most, rows = self._owed[stratum], demands.max(), dict[str, int]()
        for place, task in enumerate(self._tasks):
            if not demands[place]:
                continue
            wanted = owed[place] + passes * demands[place] / most
            drawn = min(passes, math.floor(wanted + 1e-9))
            # Below 0, by rounding, it would cost the most demanding task a row.
            owed[place] = max(0.0, wanted - drawn)
            if drawn:
                rows[task] = drawn
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        owed = [[*map(int, place), float(self._owed[*place])] for place in np.argwhere(self._owed)]
        return {"strata": self._order.state_dict(), "tasks": owed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._order.load_state_dict(state["strata"])
        self._owed = np.zeros_like(self._parts)
        for stratum, place, credit in state["tasks"]:
            self._owed[stratum, place] = credit


class RowDealer:
    """Deals `batch_size` encoder rows a step among the sources, and those of a source among its strata."""

    def __init__(self, sources: Strata, sizes: Sizes, batch_size: int) -> None:
        self._dealers = [_SourceDealer(strata, sizes) for strata in sources]
        self._batch_size = batch_size
        self._sources = Apportioner(tuple(str(number) for number in range(len(sources))))

    def deal(self, shares: Mapping[str, float]) -> tuple[Portion, ...]:
        """Return the portions of a step for shares of any scale; a task without a share draws nothing."""
        most = {str(number): dealer.asked(shares) for number, dealer in enumerate(self._dealers)}
        given = self._sources.split(self._batch_size, most)
        portions = [
            portion
            for number, dealer in enumerate(self._dealers)
            if given[str(number)]
            for portion in dealer.deal(number, given[str(number)], dealer.demands(shares))
        ]
        return tuple(portions)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        dealers = [dealer.state_dict() for dealer in self._dealers]
        return {"sources": self._sources.state_dict(), "dealers": dealers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._sources.load_state_dict(state["sources"])
        for dealer, saved in zip(self._dealers, state["dealers"], strict=True):
            dealer.load_state_dict(saved)


def passed(sources: Strata, sizes: Sizes, shares: Mapping[str, float]) -> float:
    """Return the encoder rows that it takes to give tasks that many rows each, all of a task's rows alike."""
    return sum(
        max(shares.get(task, 0.0) * (stratum.rows / sizes[task]) for task in stratum.tasks)
        for strata in sources
        for stratum in strata
    )
