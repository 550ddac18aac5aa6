"""Decoding of spans: the most probable spans that do not conflict with one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Outputs
from polytask.tasks.bio import Span
from polytask.tasks.cuts import Cuts, f1_cuts
from polytask.tasks.nested import LEVELS, TokenPlaces, relation
from polytask.tasks.span_scores import scores_of
from polytask.tasks.tag_decoding import own_words

# The lowest threshold that is tried on dev: a probability of 0.05.
LEAST_CUT = math.log(0.05 / 0.95)


@dataclass(frozen=True)
class SpanDecoding:
    """Predicts the spans of rows.

    Attributes:
        classes: the labels.
        table: biaffine table of the head.
        longest: number of words of the longest span.
        overlap: how predicted spans may overlap, one of LEVELS.
    """

    classes: tuple[str, ...]
    table: NDArray[np.float32]
    longest: int
    overlap: str

    def spans(
        self, outputs: Outputs, words: Sequence[Sequence[int]], least: float
    ) -> Iterator[list[tuple[Span, float]]]:
        """Yield each row's spans with scores of at least `least`, the highest first, without those that conflict.

        So a higher `least` leaves out the last spans and does not change the others.
        """
        rows = iter(words)
        lengths = own_words(words)
        for count, scores in scores_of(outputs, lengths, self.table, self.longest):
            start = 0
            for _ in range(count):
                places = TokenPlaces.of(next(rows))
                yield self.row_spans(scores[start : start + places.count], places, least)
                start += places.count

    def row_spans(self, scores: NDArray[np.float32], places: TokenPlaces, least: float) -> list[tuple[Span, float]]:
        """Return the same for one row, given its scores: words x longest x labels."""
        start, length, label = np.nonzero(scores >= least)
        values = scores[start, length, label]
        chosen: list[tuple[Span, float]] = []
        most = LEVELS.index(self.overlap)
        # Only spans that share a word can conflict; with overlap `any` none do.
        covering: dict[int, list[Span]] = {}
        for at in np.lexsort((label, length, start, -values)).tolist():
            first, end = places.words(int(start[at]), int(start[at] + length[at]))
            span = Span(self.classes[label[at]], first, end)
            near = (other for word in range(first, end) for other in covering.get(word, ()))
            if all(relation(span, other) <= most for other in near):
                chosen.append((span, float(values[at])))
                for word in range(first, end) if self.overlap != "any" else ():
                    covering.setdefault(word, []).append(span)
        return chosen

    def best_cut(
        self, outputs: Outputs, words: Sequence[Sequence[int]], labels: Sequence[Sequence[Span]]
    ) -> float | None:
        """Return the threshold, as a score, with the best F1; None if no span is likely enough.

        Args:
            labels: the spans of each row.
        """
        pairs = zip(self.spans(outputs, words, LEAST_CUT), map(set, labels), strict=True)
        decided = [(score, span in true) for spans, true in pairs for span, score in spans]
        if not decided:
            return None
        scores, right = zip(*decided, strict=True)
        cuts = replace(Cuts.of(np.array(scores, np.float32), np.array(right, np.bool_)), positive=sum(map(len, labels)))
        return max(float(cuts.at[f1_cuts([cuts], (0, 0, 0))[0]]), LEAST_CUT)
