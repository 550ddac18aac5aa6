"""A task's training error during training: a running mean for each class, and the mean of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

# Decay of a class's error per example, and the number of examples of one step that count at most.
ERROR_DECAY = 0.9
_AT_MOST = 20


class ClassErrors:
    """Running errors (0 to 1) by class, so that no frequent class hides a rare one; 1 before the first example."""

    def __init__(self) -> None:
        self._means = self._seen = np.zeros(0)

    def add(self, sums: Floats, counts: Floats) -> None:
        """Add a step: the sum of errors and the number of examples of each class."""
        if not len(self._seen):
            self._means, self._seen = np.zeros_like(sums), np.zeros_like(counts)
        sums = np.minimum(sums, counts)  # squared errors are unbounded
        fresh = np.where(counts > 0, 0.0, 1.0)
        keep = np.where(self._seen > 0, ERROR_DECAY ** np.minimum(counts, _AT_MOST), fresh)
        self._means = keep * self._means + (1 - keep) * sums / np.maximum(counts, 1)
        self._seen = self._seen + counts

    @property
    def mean(self) -> float:
        """The mean over the classes seen so far."""
        return float(self._means[self._seen > 0].mean()) if (self._seen > 0).any() else 1.0

    def to_json(self) -> list[Any]:
        """Return the state as JSON."""
        return [self._means.tolist(), self._seen.tolist()]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> ClassErrors:
        """Rebuild it from `to_json`."""
        errors = cls()
        errors._means, errors._seen = np.array(data[0], np.float64), np.array(data[1], np.float64)
        return errors
