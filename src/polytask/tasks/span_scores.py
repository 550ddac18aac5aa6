"""Biaffine scores of spans from the features of their first and last words: starts x lengths x labels, in NumPy.

Source: Yu, Bohnet and Poesio 2020, "Named Entity Recognition as Dependency Parsing", section 3, equation 3, with a
maximum length of spans, so that memory is linear in the length of a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Outputs

# Number of words that are scored at a time.
_BLOCK = 4096


def table_shape(labels: int, size: int) -> tuple[int, int, int]:
    """Return the shape of the biaffine table of a head with `size` outputs: labels x starts x ends.

    The last start and the last end belong to a constant 1, so that the table has linear terms and a bias per label.
    """
    return labels, size // 2 + 1, size // 2 + 1


def scores_of(
    outputs: Outputs, lengths: Sequence[int], table: NDArray[np.float32], longest: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield, for some rows at a time, the number of these rows and the scores of their spans.

    Args:
        outputs: the words of all rows x their features as first and as last words.
        lengths: number of words of each row.
        longest: number of words of the longest span.

    Yields:
        Words x longest x labels; -inf where a span would end after its row.
    """
    start, at = 0, 0
    while at < len(lengths):
        stop, words = at, 0
        while stop < len(lengths) and (stop == at or words + lengths[stop] <= _BLOCK):
            words += lengths[stop]
            stop += 1
        yield stop - at, _band(outputs[start : start + words], lengths[at:stop], table, longest)
        start, at = start + words, stop


def _band(outputs: Outputs, lengths: Sequence[int], table: NDArray[np.float32], longest: int) -> NDArray[np.float32]:
    ones = np.ones((len(outputs), 1), np.float32)
    half = outputs.shape[1] // 2
    starts = np.concatenate([outputs[:, :half], ones], axis=1)
    ends = np.concatenate([outputs[:, half:], ones], axis=1)
    labels, width, _ = table.shape
    sides = (starts @ table.transpose(1, 0, 2).reshape(width, -1)).reshape(len(starts), labels, width)
    scores = np.full((len(starts), longest, labels), -np.inf, np.float32)
    remaining = (
        np.concatenate([np.arange(length, 0, -1) for length in lengths]) if len(starts) else np.empty(0, np.int64)
    )
    for length in range(min(longest, max(lengths, default=0))):
        at = np.flatnonzero(remaining > length)
        scores[at, length] = (sides[at] @ ends[at + length][:, :, None])[:, :, 0]
    return scores
