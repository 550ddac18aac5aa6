"""A task's training error as it goes: a running mean for each class, and the mean of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

# How fast the error of a class is forgotten, by each of its examples, and by how many of one step at most.
ERROR_DECAY = 0.9
_AT_MOST = 20


class ClassErrors:
    """Errors between 0 and 1 by class, so that no frequent class hides a rare one; 1 before anything was seen."""

    def __init__(self) -> None:
        self._means = self._seen = np.zeros(0)

    def add(self, sums: Floats, counts: Floats) -> None:
        """Take in a step: the errors of each class, added up, and how many there are."""
        if not len(self._seen):
            self._means, self._seen = np.zeros_like(sums), np.zeros_like(counts)
        sums = np.minimum(sums, counts)  # a mean of squared errors has no end
        fresh = np.where(counts > 0, 0.0, 1.0)
        keep = np.where(self._seen > 0, ERROR_DECAY ** np.minimum(counts, _AT_MOST), fresh)
        self._means = keep * self._means + (1 - keep) * sums / np.maximum(counts, 1)
        self._seen = self._seen + counts

    @property
    def mean(self) -> float:
        """The mean over the classes that were seen."""
        return float(self._means[self._seen > 0].mean()) if (self._seen > 0).any() else 1.0

    def to_json(self) -> list[Any]:
        """Return the state as JSON."""
        return [self._means.tolist(), self._seen.tolist()]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> ClassErrors:
        """Rebuild it from `to_json`."""
        found = cls()
        found._means, found._seen = np.array(data[0], np.float64), np.array(data[1], np.float64)
        return found
