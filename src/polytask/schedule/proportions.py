"""How the rows of a step are divided among tasks, and how shares become whole rows without drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

Sizes: TypeAlias = Mapping[str, int]


def uniform(sizes: Sizes, temperature: float) -> dict[str, float]:
    """The same for every task."""
    del temperature
    return {task: 1.0 for task in sizes}


def proportional(sizes: Sizes, temperature: float) -> dict[str, float]:
    """In proportion to the tasks' rows: every task passes through its data in the same time."""
    del temperature
    return {task: float(size) for task, size in sizes.items()}


def tempered(sizes: Sizes, temperature: float) -> dict[str, float]:
    """In proportion to size^(1/T) (Raffel et al. 2020, section 3.5.2): T = 1 is proportional, a great T uniform."""
    return {task: size ** (1.0 / temperature) for task, size in sizes.items()}


PROPORTIONS: dict[str, Callable[[Sizes, float], dict[str, float]]] = {
    "uniform": uniform,
    "proportional": proportional,
    "temperature": tempered,
}


class Apportioner:
    """Turns shares into whole numbers that always add up, each running total within one of its exact share.

    What a task has been given too little is carried over as credit, so that a share of 0.01 row a step becomes one
    row every hundred steps.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self.credits = np.zeros(len(names))

    def split(self, total: int, shares: Mapping[str, float]) -> dict[str, int]:
        """Divide `total` by the shares, which are made to add up to 1."""
        weights = np.array([shares.get(name, 0.0) for name in self._names])
        wanted = self.credits + total * weights / weights.sum()
        given = np.maximum(np.floor(wanted + 1e-9), 0).astype(int)
        # Rows left over go to the greatest remainders; rows given too many (after negative credits) are taken back.
        while given.sum() != total:
            add = given.sum() < total
            remainders = np.where((weights > 0) if add else (given > 0), wanted - given, -np.inf if add else np.inf)
            given[int(np.argmax(remainders) if add else np.argmin(remainders))] += 1 if add else -1
        self.credits = wanted - given
        return {name: int(count) for name, count in zip(self._names, given, strict=True)}
