"""Division of a step's rows among tasks, and rounding of shares to whole rows without drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

import numpy as np

from polytask.registry import Table

Sizes: TypeAlias = Mapping[str, int]
# Beyond this ratio of two tasks' rows, proportional shares starve the smaller one (docs/recipe.md).
UNEQUAL = 2.0


@dataclass(frozen=True)
class MixingParams:
    """Parameters of the proportions in addition to the sizes.

    Attributes:
        temperature: temperature T, for `temperature`.
        cap: maximum size that is counted, for `capped`.
        progress: completed share of the run, from 0 to 1, for `annealed`.
    """

    temperature: float = 2.0
    cap: int = 2**62
    progress: float = 0.0


def uniform(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """Return the same share for every task."""
    del params
    return {task: 1.0 for task in sizes}


def proportional(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """Return shares proportional to the tasks' rows: every task finishes an epoch of its data at the same time."""
    del params
    return {task: float(size) for task, size in sizes.items()}


def tempered(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """Return shares proportional to size^(1/T) (Raffel et al. 2020, section 3.5.2); a high T is nearly uniform."""
    largest = max(sizes.values())  # a low temperature would overflow without the division
    return {task: (size / largest) ** (1.0 / params.temperature) for task, size in sizes.items()}


def auto_proportions(sizes: Sizes, *, waits: bool) -> tuple[str, str]:
    """Return the way that `auto` means, `temperature` for unequal sizes and otherwise `proportional`, and the reason.

    Args:
        sizes: number of rows of each task.
        waits: whether tasks wait for others; gates count passes through a task's rows, which `proportional` keeps.

    >>> auto_proportions({"a": 1000, "b": 500}, waits=False)
    ('proportional', 'no task has more than 2 times the rows of another')
    >>> auto_proportions({"a": 4000, "b": 100}, waits=False)
    ('temperature', 'a has 40 times the rows of b')
    """
    largest, smallest = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
    ratio = sizes[largest] / max(1, sizes[smallest])
    if ratio <= UNEQUAL:
        return "proportional", f"no task has more than {UNEQUAL:g} times the rows of another"
    if waits:
        return "proportional", "tasks wait for others to pass through their rows"
    return "temperature", f"{largest} has {ratio:.3g} times the rows of {smallest}"


def annealed(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """Return shares proportional to size^a, a falling from 1 to 0.2 (Stickland and Murray 2019, section 3.2).

    In the paper, a = 1 - 0.8 (e - 1) / (E - 1) changes per epoch; here it changes per step.
    """
    return {task: size ** (1.0 - 0.8 * params.progress) for task, size in sizes.items()}


def capped(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """Return shares proportional to min(size, cap) (Raffel et al. 2020, section 3.5.2)."""
    return {task: float(min(size, params.cap)) for task, size in sizes.items()}


Proportioning: TypeAlias = Callable[[Sizes, MixingParams], dict[str, float]]
_PROPORTIONS: dict[str, Proportioning] = {
    "uniform": uniform,
    "proportional": proportional,
    "temperature": tempered,
    "annealed": annealed,
    "capped": capped,
}
PROPORTIONS = Table("way to divide rows (schedule.proportions)", _PROPORTIONS)


class Apportioner:
    """Rounds shares to whole numbers with the right sum, each running total within one row of its exact share.

    Rows are assigned one at a time as in Tijdeman 1980, "The chairman assignment problem" (theorem 1): of the names
    that may get a row already, the one with the earliest deadline gets it. Assigning a step's rows by largest
    remainders would drift by more than one row.

    Args:
        names: names of the recipients.
        cycle: number of rows after which ties between deadlines are broken in a new random order, so that many small
            recipients are not always next to each other; by default ties are broken by the order of names.
    """

    def __init__(self, names: tuple[str, ...], cycle: int | None = None) -> None:
        self._names = names
        self._cycle = cycle
        self._given = 0
        # Rows that each name is short of its exact share (below 0: ahead of it).
        self.credits = [0.0] * len(names)

    def split(self, total: int, shares: Mapping[str, float]) -> dict[str, int]:
        """Divide `total` by the shares, which are scaled to sum to 1."""
        whole = sum(shares.values())
        weights = {place: shares[name] / whole for place, name in enumerate(self._names) if shares.get(name, 0.0) > 0}
        given = self._give(total, weights) if len(weights) > 1 else dict.fromkeys(weights, total)
        self._given += total
        return {name: given.get(place, 0) for place, name in enumerate(self._names)}

    def _give(self, total: int, weights: Mapping[int, float]) -> dict[int, int]:
        """Assign rows to some names, by index, and update their credits."""
        margin, given = 1 / max(2 * len(self._names) - 2, 1), dict.fromkeys(weights, 0)
        owed, turns = self.credits, self._turns(self._given)

        def when(place: int, credit: float) -> float:
            """Return the row of this division at which a name's credit reaches `credit`."""
            return (credit - owed[place] + given[place]) / weights[place]

        later = [(when(place, margin - 1e-9), place) for place in weights]
        heapify(later)
        ready: list[tuple[float, int, int]] = []
        for number in range(1, total + 1):
            if self._cycle and (self._given + number - 1) % self._cycle == 0:
                turns = self._turns(self._given + number - 1)
            while later and later[0][0] <= number:
                place = heappop(later)[1]
                # Rounded, so that equal deadlines compare as equal.
                heappush(ready, (round(when(place, 1 - margin), 6), turns[place], place))
            if ready:
                chosen = heappop(ready)[2]
            else:  # after a change of the shares
                chosen = max(weights, key=lambda place: owed[place] + number * weights[place] - given[place])
                later = [(row, place) for row, place in later if place != chosen]
                heapify(later)
            given[chosen] += 1
            heappush(later, (when(chosen, margin - 1e-9), chosen))
        for place, weight in weights.items():
            owed[place] += total * weight - given[place]
        return given

    def _turns(self, number: int) -> Sequence[int]:
        """Return each name's rank among those with the same deadline."""
        if not self._cycle:
            return range(len(self._names))
        generator = np.random.Generator(np.random.Philox(key=number // self._cycle))
        return generator.permutation(len(self._names)).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"given": self._given, "credits": list(self.credits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._given, self.credits = state["given"], list(state["credits"])
