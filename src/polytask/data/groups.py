"""Groups rows of similar length, which are padded together, to keep padding small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# Number of tokens (padding included) per pass through the encoder.
TOKENS_A_PASS = 8192


def cut(lengths: Sequence[int], overhead: int, most: int | None = None) -> list[int]:
    """Divide ascending lengths into runs with the least padding cost, and return the end of each run.

    The cost of a run, in tokens, is its rows times its greatest length, plus `overhead`: even a small pass through the
    encoder has a cost. Exact, by dynamic programming over the lengths that occur: rows of equal length are never
    separated if the size of runs is unlimited.

    Args:
        most: maximum number of rows of a run; by default unlimited.

    >>> cut([5, 5, 100, 100], overhead=10)
    [2, 4]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    # Where a run may end: after the last row of each length, or anywhere.
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
    """Return the end of each run of equal values."""
    return np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1 if len(values) else np.empty(0, np.intp)


def groups_by_length(
    lengths: Sequence[int], tokens: int = TOKENS_A_PASS, rows: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Yield indices in groups of similar length whose padded size is at most `tokens`; a longer row is its own group.

    Args:
        rows: number of rows that each index counts as; by default 1.

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
