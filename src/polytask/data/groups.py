"""Groups of rows that are padded together: by length, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Tokens (padding included) that pass through the encoder at a time.
TOKENS_A_PASS = 8192


def cut(lengths: Sequence[int], overhead: int, most: int | None = None) -> list[int]:
    """Cut ascending lengths into runs so that padding costs least, and return where each run ends.

    The cost of a run is its rows times its greatest length, plus `overhead`, all in tokens: a pass through the
    encoder costs something however small it is. Exact, by dynamic programming over the lengths that occur: rows of one
    length are never apart where any number of them may be together, however many there are.

    Args:
        most: greatest number of rows of a run; by default any.

    >>> cut([5, 5, 100, 100], overhead=10)
    [2, 4]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    # Where a run may end: behind the last row of each length, or anywhere.
    edges = np.arange(len(sizes) + 1) if most is not None else np.append(0, _ends_of_equals(sizes))
    best = np.zeros(len(edges), dtype=np.int64)
    start_of = np.zeros(len(edges), dtype=np.int64)
    for end in range(1, len(edges)):
        first = 0 if most is None else max(0, end - most)
        costs = best[first:end] + (edges[end] - edges[first:end]) * sizes[edges[end] - 1] + overhead
        pick = int(np.argmin(costs))
        best[end], start_of[end] = costs[pick], first + pick
    ends: list[int] = []
    at = len(edges) - 1
    while at > 0:
        ends.append(int(edges[at]))
        at = int(start_of[at])
    return ends[::-1]


def _ends_of_equals(values: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each run of equal values ends."""
    return np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1 if len(values) else np.empty(0, np.intp)


def groups_by_length(
    lengths: Sequence[int], tokens: int = TOKENS_A_PASS, rows: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield indices in groups of similar length whose padded size stays within `tokens`; what is greater stands alone.

    Args:
        rows: as how many rows of its length each counts; by default as one.

    >>> list(groups_by_length([5, 100, 6], tokens=100))
    [[1], [0, 2]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)  # the longest first: memory peaks early
    group, size = list[int](), 0
    for index in order:
        count = 1 if rows is None else rows[index]
        if group and (size + count) * lengths[group[0]] > tokens:
            yield sorted(group)
            group, size = [], 0
        group.append(index)
        size += count
    if group:
        yield sorted(group)
