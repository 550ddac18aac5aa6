"""Tags of a row as one chain: the best path, and the probability of each tag, over many rows at once.

A chain scores a row by its emissions (words x tags) and by a table of transitions: what the first tag adds, what the
last one adds, and what each tag adds behind another one. A score of -inf forbids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Floats

Integers = NDArray[np.int64]
# Numbers that one step along a block of chains works on: small enough for the processor's cache.
_BLOCK = 200_000
# How far apart scores may lie so that no power of any sum of a few of them underflows.
_SAFE = 100.0


@dataclass(frozen=True)
class Transitions:
    """What neighbouring tags add to the score of a chain.

    Attributes:
        start, end: of the first and of the last tag: tags.
        between: of a tag (row) and the one behind it (column): tags x tags.
    """

    start: Floats
    end: Floats
    between: Floats

    @classmethod
    def read(cls, table: Floats) -> Transitions:
        """Read a table of a head: the lines of the tags, then `start` and `end`: (tags + 2) x tags."""
        return cls(table[-2], table[-1], table[:-2])

    def __add__(self, other: Transitions) -> Transitions:
        return Transitions(self.start + other.start, self.end + other.end, self.between + other.between)

    def scaled(self, factor: float) -> Transitions:
        """Return the scores times a positive number; what is forbidden stays forbidden."""
        return Transitions(self.start * factor, self.end * factor, self.between * factor)


def scheme_transitions(tagset: Sequence[str], *, bio: bool) -> Transitions:
    """Return 0 for what may follow in a scheme, -inf for what may not: in BIO an I- continues its own entity only."""
    size = len(tagset)
    found = Transitions(np.zeros(size), np.zeros(size), np.zeros((size, size)))
    for at, tag in enumerate(tagset if bio else ()):
        if tag.startswith("I-"):
            found.start[at] = -np.inf
            found.between[[before[2:] != tag[2:] for before in tagset], at] = -np.inf
    return found


def best_paths(emissions: Floats, lengths: Sequence[int], transitions: Transitions) -> Integers:
    """Return the tags of greatest score of every row; among equals the first tag (Viterbi 1967).

    Args:
        emissions: the words of all rows, one row after another x tags.
        lengths: the words of each row.
    """
    found = np.zeros(len(emissions), np.int64)
    for block in _blocks(emissions, lengths):
        pointers: list[Integers] = []
        score = transitions.start + block.at(0)
        for step in range(1, block.longest):
            active = block.active(step)
            before = score[:active, :, None] + transitions.between
            pointers.append(before.argmax(1))
            score[:active] = before.max(1) + block.at(step)
        tags = (score + transitions.end).argmax(1)
        found[block.first + block.lengths - 1] = tags
        for step in range(block.longest - 1, 0, -1):
            active = block.active(step)
            tags[:active] = pointers[step - 1][np.arange(active), tags[:active]]
            found[block.first[:active] + step - 1] = tags[:active]
    return found


def log_marginals(emissions: Floats, lengths: Sequence[int], transitions: Transitions) -> Floats:
    """Return the logarithm of the probability of each tag at each word, over all paths of its row: words x tags.

    Forward-backward; arguments as for `best_paths`. A tag that no allowed path has gets -inf.
    """
    found = np.zeros(emissions.shape, np.float64)
    sums = _sums_by_product if _spread(emissions, transitions) < _SAFE else _sums
    for block in _blocks(emissions, lengths):
        rows = np.arange(len(block.lengths))
        forward = np.empty((block.longest, len(rows), emissions.shape[1]))
        forward[0] = transitions.start + block.at(0)
        for step in range(1, block.longest):
            active = block.active(step)
            forward[step, :active] = block.at(step) + sums(forward[step - 1, :active], transitions.between)
        total = _log_sum(forward[block.lengths - 1, rows] + transitions.end, 1)
        backward = np.broadcast_to(transitions.end, forward.shape[1:]).copy()
        for step in range(block.longest - 1, -1, -1):
            active, going_on = block.active(step), block.active(step + 1)
            if going_on:
                following = block.at(step + 1) + backward[:going_on]
                backward[:going_on] = sums(following, transitions.between.T)
            found[block.first[:active] + step] = forward[step, :active] + backward[:active] - total[:active, None]
    return found


def _spread(emissions: Floats, transitions: Transitions) -> float:
    """Return an upper bound of how far the scores of one step lie apart, those aside that are forbidden."""
    tables = (transitions.start, transitions.end, transitions.between)
    finite = [np.abs(table[np.isfinite(table)]).max(initial=0.0) for table in tables]
    return 2 * float(np.abs(emissions).max(initial=0.0) + max(finite))


def _sums(scores: Floats, between: Floats) -> Floats:
    """Return for each tag the log-sum over the tags before it: rows x tags.

    Args:
        scores: rows x tags before.
        between: tags before x tags.
    """
    return _log_sum(scores[:, :, None] + between, 1)


def _sums_by_product(scores: Floats, between: Floats) -> Floats:
    """Return what `_sums` does by a matrix product, which is ten times as fast and needs scores of one magnitude."""
    greatest = scores.max(1, keepdims=True)
    return np.log(np.exp(scores - greatest) @ np.exp(between)) + greatest


def _log_sum(values: Floats, axis: int) -> Floats:
    greatest = values.max(axis, keepdims=True)
    return np.log(np.exp(values - greatest).sum(axis)) + greatest.squeeze(axis)


@dataclass(frozen=True)
class _Block:
    """Rows of similar length, the longest first, so that those which go on at a step are the first ones.

    Attributes:
        first: where each row's first word stands among all words.
        lengths: words of each row, descending, at least 1.
    """

    emissions: Floats
    first: Integers
    lengths: Integers

    @property
    def longest(self) -> int:
        return int(self.lengths[0])

    def active(self, step: int) -> int:
        """Return how many rows have a word at a step."""
        return int(np.searchsorted(-self.lengths, -step, side="left"))

    def at(self, step: int) -> Floats:
        """Return the emissions of the rows that have a word at a step."""
        return self.emissions[self.first[: self.active(step)] + step].astype(np.float64)


def _blocks(emissions: Floats, lengths: Sequence[int]) -> Iterator[_Block]:
    """Yield the rows that have any word, those of similar length together."""
    sizes = np.asarray(lengths, dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rows = max(1, _BLOCK // emissions.shape[1] ** 2)
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        yield _Block(emissions, first[chosen], sizes[chosen])
