"""Retrieval with vectors: the rank of each text's match, and the closest texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Floats
from polytask.tasks.metric import Metric, Resampled

# Number of anchors that are compared with all candidates at once.
_BLOCK = 512


def unit(vectors: Floats) -> Floats:
    """Return the vectors scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def ranks(
    vectors: Floats,
    texts: NDArray[np.int64],
    anchors: NDArray[np.intp],
    others: NDArray[np.intp],
    candidates: NDArray[np.intp],
) -> Floats:
    """Return the rank, from 1, of each anchor's other text among the candidates; ties count against it.

    Candidates with the same text count once; the anchor's own text, and other texts that match it in another row, are
    left out.

    Args:
        vectors: texts x size.
        texts: hash of each text.
        others: index of each anchor's other text, which is a candidate.
    """
    units = unit(vectors)
    unique, first = np.unique(texts[candidates], return_index=True)
    searched = units[candidates[first]]
    targets = np.searchsorted(unique, texts[others])
    ranking = np.empty(len(anchors))
    matches: dict[int, set[int]] = {}
    for anchor, place in zip(texts[anchors].tolist(), targets.tolist(), strict=True):
        matches.setdefault(anchor, set()).add(place)
    itself = {text: place for place, text in enumerate(unique.tolist())}
    for start in range(0, len(anchors), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = units[anchors[block]] @ searched.T
        target_cosines = cosines[np.arange(len(cosines)), targets[block]].copy()
        for line, anchor in enumerate(texts[anchors[block]].tolist()):
            cosines[line, list(matches[anchor])] = -np.inf
            if anchor in itself:
                cosines[line, itself[anchor]] = -np.inf
        ranking[block] = 1 + (cosines >= target_cosines[:, None] - 1e-9).sum(axis=1)
    return ranking


def closest(
    vectors: Floats, texts: NDArray[np.int64], anchors: Sequence[int], candidates: NDArray[np.intp], count: int
) -> list[list[tuple[int, float]]]:
    """Return each anchor's closest candidates as (index, cosine) pairs, in descending order of the cosine.

    Candidates with the same text count once, and an anchor's own text is left out.

    Args:
        vectors, texts: as for `ranks`.
    """
    units = unit(vectors)
    unique, first = np.unique(texts[candidates], return_index=True)
    places = candidates[first]
    searched = units[places]
    itself = {text: place for place, text in enumerate(unique.tolist())}
    neighbours: list[list[tuple[int, float]]] = []
    for anchor in anchors:
        cosines = searched @ units[anchor]
        own_index = itself.get(int(texts[anchor]))
        order = [place for place in np.argsort(-cosines, kind="stable")[: count + 1].tolist() if place != own_index][
            :count
        ]
        neighbours.append([(int(places[place]), float(cosines[place])) for place in order])
    return neighbours


def found_within(places: int) -> Metric:
    """Return the metric recall@places: the share of texts whose other text is ranked at most `places`."""

    def measure(truth: Sequence[float], predictions: Sequence[float]) -> float | None:
        del truth
        return float(np.mean(np.asarray(predictions) <= places)) if len(predictions) else None

    def resampled(truth: Sequence[float], predictions: Sequence[float]) -> Resampled:
        del truth
        hits = (np.asarray(predictions, dtype=np.float64) <= places).astype(np.float64)

        def of(block: Floats) -> Floats:
            rows = block.sum(axis=1).astype(np.float64)
            return np.divide(block @ hits, rows, out=np.full(len(block), np.nan), where=rows > 0)

        return of

    return Metric(measure, resampled=resampled)
