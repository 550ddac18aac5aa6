"""Tags of a row as a linear chain: the best path and the probability of each tag, for many rows at once.

A chain scores a row by its emissions (words x tags) and a table of transitions: scores of the first tag, of the last
tag, and of each tag after another. A score of -inf forbids a transition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Floats

Integers = NDArray[np.int64]
# Numbers that one step along a block of chains works on: few enough for the CPU's cache.
_BLOCK = 200_000
# Scores that differ by less than this do not underflow in exp, even as sums of a few of them.
_SAFE = 100.0


@dataclass(frozen=True)
class Transitions:
    """Scores of neighbouring tags in a chain.

    Attributes:
        start, end: scores of the first and of the last tag: tags.
        between: scores of a tag (row) and the next tag (column): tags x tags.
    """

    start: Floats
    end: Floats
    between: Floats

    @classmethod
    def read(cls, table: Floats) -> Transitions:
        """Read a head's table: one line for each tag, then `start` and `end`: (tags + 2) x tags."""
        return cls(table[-2], table[-1], table[:-2])

    def __add__(self, other: Transitions) -> Transitions:
        return Transitions(self.start + other.start, self.end + other.end, self.between + other.between)

    def scaled(self, factor: float) -> Transitions:
        """Return the scores times a positive number; forbidden transitions stay forbidden."""
        return Transitions(self.start * factor, self.end * factor, self.between * factor)


def scheme_transitions(tagset: Sequence[str], *, bio: bool) -> Transitions:
    """Return 0 for transitions that a scheme allows, -inf for others: in BIO, I- only continues its own entity type."""
    size = len(tagset)
    transitions = Transitions(np.zeros(size), np.zeros(size), np.zeros((size, size)))
    for at, tag in enumerate(tagset if bio else ()):
        if tag.startswith("I-"):
            transitions.start[at] = -np.inf
            transitions.between[[before[2:] != tag[2:] for before in tagset], at] = -np.inf
    return transitions


def best_paths(emissions: Floats, lengths: Sequence[int], transitions: Transitions) -> Integers:
    """Return the highest-scoring tags of every row; ties go to the first tag (Viterbi 1967).

    Args:
        emissions: words x tags, the words of all rows one row after another.
        lengths: number of words of each row.
    """
    paths = np.zeros(len(emissions), np.int64)
    for block in _blocks(emissions, lengths):
        pointers: list[Integers] = []
        score = transitions.start + block.at(0)
        for step in range(1, block.longest):
            active = block.active(step)
            before = score[:active, :, None] + transitions.between
            pointers.append(before.argmax(1))
            score[:active] = before.max(1) + block.at(step)
        tags = (score + transitions.end).argmax(1)
        paths[block.first + block.lengths - 1] = tags
        for step in range(block.longest - 1, 0, -1):
            active = block.active(step)
            tags[:active] = pointers[step - 1][np.arange(active), tags[:active]]
            paths[block.first[:active] + step - 1] = tags[:active]
    return paths


def log_marginals(emissions: Floats, lengths: Sequence[int], transitions: Transitions) -> Floats:
    """Return the log-probability of each tag at each word, over all paths of its row: words x tags.

    By the forward-backward algorithm; arguments as for `best_paths`. Tags on no allowed path get -inf.
    """
    marginals = np.zeros(emissions.shape, np.float64)
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
            active, longer = block.active(step), block.active(step + 1)
            if longer:
                following = block.at(step + 1) + backward[:longer]
                backward[:longer] = sums(following, transitions.between.T)
            marginals[block.first[:active] + step] = forward[step, :active] + backward[:active] - total[:active, None]
    return marginals


def _spread(emissions: Floats, transitions: Transitions) -> float:
    """Return an upper bound of the difference between scores in one step, apart from forbidden ones."""
    tables = (transitions.start, transitions.end, transitions.between)
    finite = [np.abs(table[np.isfinite(table)]).max(initial=0.0) for table in tables]
    return 2 * float(np.abs(emissions).max(initial=0.0) + max(finite))


def _sums(scores: Floats, between: Floats) -> Floats:
    """Return for each tag the log-sum-exp over the previous tags: rows x tags.

    Args:
        scores: rows x previous tags.
        between: previous tags x tags.
    """
    return _log_sum(scores[:, :, None] + between, 1)


def _sums_by_product(scores: Floats, between: Floats) -> Floats:
    """Compute `_sums` by a matrix product: ten times as fast, but only for scores of similar magnitude."""
    greatest = scores.max(1, keepdims=True)
    return np.log(np.exp(scores - greatest) @ np.exp(between)) + greatest


def _log_sum(values: Floats, axis: int) -> Floats:
    greatest = values.max(axis, keepdims=True)
    return np.log(np.exp(values - greatest).sum(axis)) + greatest.squeeze(axis)


@dataclass(frozen=True)
class _Block:
    """Rows of similar length, the longest first, so that the rows that are still active at a step come first.

    Attributes:
        first: index of each row's first word among all words.
        lengths: number of words of each row, descending, at least 1.
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
    """Yield the rows that have words, in blocks of similar length."""
    sizes = np.asarray(lengths, dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rows = max(1, _BLOCK // emissions.shape[1] ** 2)
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        yield _Block(emissions, first[chosen], sizes[chosen])
