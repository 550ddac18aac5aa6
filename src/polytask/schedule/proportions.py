"""How the rows of a step are divided among tasks, and how shares become whole rows without drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Sizes: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Dial:
    """What some of the proportions depend on besides the sizes.

    Attributes:
        temperature: of `temperature`.
        cap: rows beyond which a task's size does not count, for `capped`.
        progress: the share of the run that is over, from 0 to 1, for `annealed`.
    """

    temperature: float = 2.0
    cap: int = 2**62
    progress: float = 0.0


def uniform(sizes: Sizes, dial: Dial) -> dict[str, float]:
    """The same for every task."""
    del dial
    return {task: 1.0 for task in sizes}


def proportional(sizes: Sizes, dial: Dial) -> dict[str, float]:
    """In proportion to the tasks' rows: every task passes through its data in the same time."""
    del dial
    return {task: float(size) for task, size in sizes.items()}


def tempered(sizes: Sizes, dial: Dial) -> dict[str, float]:
    """In proportion to size^(1/T) (Raffel et al. 2020, section 3.5.2): T = 1 is proportional, a great T uniform."""
    most = max(sizes.values())  # of which a low temperature would make a number beyond all bounds
    return {task: (size / most) ** (1.0 / dial.temperature) for task, size in sizes.items()}


def annealed(sizes: Sizes, dial: Dial) -> dict[str, float]:
    """In proportion to size^a, with a falling from 1 to 0.2 over the run (Stickland and Murray 2019, section 3.2).

    The paper's a = 1 - 0.8 (e - 1) / (E - 1) goes by epochs; here it falls from step to step.
    """
    return {task: size ** (1.0 - 0.8 * dial.progress) for task, size in sizes.items()}


def capped(sizes: Sizes, dial: Dial) -> dict[str, float]:
    """In proportion to min(size, cap) (Raffel et al. 2020, section 3.5.2, examples-proportional mixing)."""
    return {task: float(min(size, dial.cap)) for task, size in sizes.items()}


PROPORTIONS: dict[str, Callable[[Sizes, Dial], dict[str, float]]] = {
    "uniform": uniform,
    "proportional": proportional,
    "temperature": tempered,
    "annealed": annealed,
    "capped": capped,
}


class Apportioner:
    """Turns shares into whole numbers that always add up, each running total within one of its exact share.

    Rows are given one at a time, as the chairmen in Tijdeman 1980, "The chairman assignment problem" (theorem 1):
    among the names that may have a row already, the one that must have it soonest. Giving a step's rows to the
    greatest remainders would drift beyond one row.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        # What each name has been given too little (or, below 0, too much) of its exact share.
        self.credits = [0.0] * len(names)

    def split(self, total: int, shares: Mapping[str, float]) -> dict[str, int]:
        """Divide `total` by the shares, which are made to add up to 1."""
        whole = sum(shares.values())
        weights = {place: shares[name] / whole for place, name in enumerate(self._names) if shares.get(name, 0.0) > 0}
        margin = 1 / max(2 * len(self._names) - 2, 1)
        given = dict.fromkeys(self._names, 0)
        for _ in range(total):
            for place, weight in weights.items():
                self.credits[place] += weight
            ready = [place for place in weights if self.credits[place] >= margin - 1e-9]
            if ready:
                chosen = min(ready, key=lambda place: (1 - margin - self.credits[place]) / weights[place])
            else:  # after a change of the shares
                chosen = max(weights, key=self.credits.__getitem__)
            self.credits[chosen] -= 1
            given[self._names[chosen]] += 1
        return given
