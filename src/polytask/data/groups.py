"""Groups of rows that are padded together: by length, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Tokens (padding included) that pass through the encoder at a time.
TOKENS_A_PASS = 8192


def cut(lengths: Sequence[int], overhead: int, most: int | None = None) -> list[int]:
    """Cut ascending lengths into runs so that padding costs least, and return where each run ends.

    The cost of a run is its rows times its greatest length, plus `overhead`, all in tokens: a pass through the
    encoder costs something however small it is. Exact, by dynamic programming over at most some hundred rows.

    Args:
        most: greatest number of rows of a run; by default any.

    >>> cut([5, 5, 100, 100], overhead=10)
    [2, 4]
    """
    count = len(lengths)
    sizes = np.asarray(lengths, dtype=np.int64)
    best = np.zeros(count + 1, dtype=np.int64)
    start_of = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        first = 0 if most is None else max(0, end - most)
        starts = np.arange(first, end)
        costs = best[first:end] + (end - starts) * sizes[end - 1] + overhead
        pick = int(np.argmin(costs))
        best[end], start_of[end] = costs[pick], starts[pick]
    ends: list[int] = []
    at = count
    while at > 0:
        ends.append(at)
        at = int(start_of[at])
    return ends[::-1]


def groups_by_length(lengths: Sequence[int], tokens: int = TOKENS_A_PASS) -> Iterator[list[int]]:
    """Yield indices in groups of similar length whose padded size stays within `tokens`.

    >>> list(groups_by_length([5, 100, 6], tokens=100))
    [[1], [0, 2]]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)  # the longest first: memory peaks early
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * lengths[group[0]] > tokens:
            yield sorted(group)
            group = []
        group.append(index)
    if group:
        yield sorted(group)
