"""Labelled spans of words, which may be nested: as one text per word, and as positions of tokens.

A row's spans are written as one text for each word: for each span that begins there, a line with its number of words,
a tab and the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.bio import Span
from polytask.terms import OWN_TOKEN, SHARED_TOKEN

Integers = NDArray[np.int64]
# How spans of one row may overlap, from the strictest level.
LEVELS = ("none", "nested", "any")


def join_spans(spans: Iterable[Span], words: int) -> list[str]:
    """Return a text for each word.

    >>> join_spans([Span("ORG", 0, 3), Span("LOC", 2, 3)], 4)
    ['3\\tORG', '', '1\\tLOC', '']
    """
    lines: list[list[str]] = [[] for _ in range(words)]
    for span in sorted(set(spans), key=lambda span: (span.first, -span.end, span.label)):
        lines[span.first].append(f"{span.end - span.first}\t{span.label}")
    return ["\n".join(word_lines) for word_lines in lines]


def spans_of(texts: Sequence[str]) -> list[Span]:
    """Return the spans that `join_spans` wrote. Raises ValueError for any other text.

    >>> spans_of(['3\\tORG', '', '1\\tLOC', ''])
    [Span(label='ORG', first=0, end=3), Span(label='LOC', first=2, end=3)]
    """
    spans: list[Span] = []
    for first, text in enumerate(texts):
        for line in text.split("\n") if text else ():
            length, _, label = line.partition("\t")
            if not length.isdecimal() or not label or not 0 < int(length) <= len(texts) - first:
                raise ValueError(f"found {line!r} at word {first + 1}, which is no span")
            spans.append(Span(label, first, first + int(length)))
    return spans


def relation(first: Span, second: Span) -> int:
    """Return how two spans of one row overlap, as an index of LEVELS; spans of the same words count as nested.

    >>> relation(Span("a", 0, 2), Span("b", 2, 3)), relation(Span("a", 0, 2), Span("b", 1, 2))
    (0, 1)
    >>> relation(Span("a", 0, 2), Span("b", 1, 3))
    2
    """
    if first.end <= second.first or second.end <= first.first:
        return 0
    inside = first.first <= second.first and second.end <= first.end
    return 1 if inside or (second.first <= first.first and first.end <= second.end) else 2


@dataclass(frozen=True)
class TokenPlaces:
    """The positions of a row's words, among the words that have a token of their own.

    Attributes:
        count: number of words that have a token of their own.
        first, last: for each word, the position at which a span that begins (or ends) with this word begins (or ends).
        begin, end: for each position, the first of its words and the one after its last.
    """

    count: int
    first: Integers
    last: Integers
    begin: Integers
    end: Integers

    @classmethod
    def of(cls, words: Sequence[int] | NDArray[np.int64]) -> TokenPlaces:
        """Compute them from NO_TOKEN, OWN_TOKEN or SHARED_TOKEN for each word.

        A word without a token is left out of its span; words that share a token count as one.
        """
        kinds = np.asarray(words, dtype=np.int64)
        last = np.cumsum(kinds == OWN_TOKEN) - 1
        first = np.where((kinds == OWN_TOKEN) | (kinds == SHARED_TOKEN), last, last + 1)
        begin = np.flatnonzero(kinds == OWN_TOKEN)
        end = begin + 1
        shared = np.flatnonzero(kinds == SHARED_TOKEN)
        end[last[shared]] = shared + 1  # the last one counts
        return cls(len(begin), first, last, begin, end)

    def place(self, first: int, end: int) -> tuple[int, int] | None:
        """Return the first and last position of a span of words; None if none of its words has a token."""
        start, stop = int(self.first[first]), int(self.last[end - 1])
        return (start, stop) if 0 <= start <= stop < self.count else None

    def words(self, start: int, stop: int) -> tuple[int, int]:
        """Return the span of words from position `start` to `stop` (inclusive)."""
        return int(self.begin[start]), int(self.end[stop])
