"""How the rows of a step are divided among tasks, and how shares become whole rows without drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

import numpy as np

from polytask.registry import Table

Sizes: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class MixingParams:
    """What some of the proportions depend on besides the sizes.

    Attributes:
        temperature: of `temperature`.
        cap: rows beyond which a task's size does not count, for `capped`.
        progress: the share of the run that is over, from 0 to 1, for `annealed`.
    """

    temperature: float = 2.0
    cap: int = 2**62
    progress: float = 0.0


def uniform(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """The same for every task."""
    del params
    return {task: 1.0 for task in sizes}


def proportional(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """In proportion to the tasks' rows: every task passes through its data in the same time."""
    del params
    return {task: float(size) for task, size in sizes.items()}


def tempered(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """In proportion to size^(1/T) (Raffel et al. 2020, section 3.5.2): T = 1 is proportional, a great T uniform."""
    most = max(sizes.values())  # of which a low temperature would make a number beyond all bounds
    return {task: (size / most) ** (1.0 / params.temperature) for task, size in sizes.items()}


def annealed(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """In proportion to size^a, with a falling from 1 to 0.2 over the run (Stickland and Murray 2019, section 3.2).

    The paper's a = 1 - 0.8 (e - 1) / (E - 1) goes by epochs; here it falls from step to step.
    """
    return {task: size ** (1.0 - 0.8 * params.progress) for task, size in sizes.items()}


def capped(sizes: Sizes, params: MixingParams) -> dict[str, float]:
    """In proportion to min(size, cap) (Raffel et al. 2020, section 3.5.2, examples-proportional mixing)."""
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
    """Turns shares into whole numbers that always add up, each running total within one of its exact share.

    Rows are given one at a time, as the chairmen in Tijdeman 1980, "The chairman assignment problem" (theorem 1):
    among the names that may have a row already, the one that must have it soonest. Giving a step's rows to the
    greatest remainders would drift beyond one row.

    Args:
        cycle: rows after which names that must have a row at the same time take turns in another, random order, so
            that many small ones do not come side by side for ever; by default the first name comes first.
    """

    def __init__(self, names: tuple[str, ...], cycle: int | None = None) -> None:
        self._names = names
        self._cycle = cycle
        self._given = 0
        # What each name has been given too little (or, below 0, too much) of its exact share.
        self.credits = [0.0] * len(names)

    def split(self, total: int, shares: Mapping[str, float]) -> dict[str, int]:
        """Divide `total` by the shares, which are made to add up to 1."""
        whole = sum(shares.values())
        weights = {place: shares[name] / whole for place, name in enumerate(self._names) if shares.get(name, 0.0) > 0}
        given = self._give(total, weights) if len(weights) > 1 else dict.fromkeys(weights, total)
        self._given += total
        return {name: given.get(place, 0) for place, name in enumerate(self._names)}

    def _give(self, total: int, weights: Mapping[int, float]) -> dict[int, int]:
        """Give rows to the places of some names, and note their credits."""
        margin, given = 1 / max(2 * len(self._names) - 2, 1), dict.fromkeys(weights, 0)
        owed, turns = self.credits, self._turns(self._given)

        def when(place: int, credit: float) -> float:
            """Return the row of this division at which a place's credit would be so great."""
            return (credit - owed[place] + given[place]) / weights[place]

        later = [(when(place, margin - 1e-9), place) for place in weights]
        heapify(later)
        ready: list[tuple[float, int, int]] = []
        for number in range(1, total + 1):
            if self._cycle and (self._given + number - 1) % self._cycle == 0:
                turns = self._turns(self._given + number - 1)
            while later and later[0][0] <= number:
                place = heappop(later)[1]
                # Rounded, since what is due at the same time is to be known for it.
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
        """Return each name's place among those that must have a row at the same time."""
        if not self._cycle:
            return range(len(self._names))
        generator = np.random.Generator(np.random.Philox(key=number // self._cycle))
        return generator.permutation(len(self._names)).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON."""
        return {"given": self._given, "credits": list(self.credits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._given, self.credits = state["given"], list(state["credits"])
