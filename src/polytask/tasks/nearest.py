"""How well vectors find what belongs together: the rank of each text's other one, and the cosines of pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.arrays import Floats
from polytask.tasks.metric import Metric, Resampled

# Anchors that are compared with all candidates at once.
_BLOCK = 512


def unit(vectors: Floats) -> Floats:
    """Return vectors of length 1; of zeros, zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def ranks(
    vectors: Floats,
    texts: NDArray[np.int64],
    anchors: NDArray[np.intp],
    others: NDArray[np.intp],
    candidates: NDArray[np.intp],
) -> Floats:
    """Return at which place each anchor's other text is found among the candidates, from 1; ties count against it.

    Candidates with the same text count once; whatever else belongs to the anchor's text in another row is left out, and
    so is the text itself.

    Args:
        vectors: texts x size.
        texts: for each text a number that is the same for the same text.
        others: for each anchor the text that belongs to it, which is a candidate.
    """
    units = unit(vectors)
    told, first = np.unique(texts[candidates], return_index=True)
    searched = units[candidates[first]]
    own = np.searchsorted(told, texts[others])
    found = np.empty(len(anchors))
    belongs: dict[int, set[int]] = {}
    for anchor, place in zip(texts[anchors].tolist(), own.tolist(), strict=True):
        belongs.setdefault(anchor, set()).add(place)
    itself = {text: place for place, text in enumerate(told.tolist())}
    for start in range(0, len(anchors), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = units[anchors[block]] @ searched.T
        mine = cosines[np.arange(len(cosines)), own[block]].copy()
        for line, anchor in enumerate(texts[anchors[block]].tolist()):
            cosines[line, list(belongs[anchor])] = -np.inf
            if anchor in itself:
                cosines[line, itself[anchor]] = -np.inf
        found[block] = 1 + (cosines >= mine[:, None] - 1e-9).sum(axis=1)
    return found


def closest(
    vectors: Floats, texts: NDArray[np.int64], anchors: Sequence[int], candidates: NDArray[np.intp], count: int
) -> list[list[tuple[int, float]]]:
    """Return for each anchor the closest candidates, as places and cosines, from the greatest cosine on.

    Candidates with the same text count once, and an anchor's own text is left out.

    Args:
        vectors, texts: as for `ranks`.
    """
    units = unit(vectors)
    told, first = np.unique(texts[candidates], return_index=True)
    places = candidates[first]
    searched = units[places]
    itself = {text: place for place, text in enumerate(told.tolist())}
    found: list[list[tuple[int, float]]] = []
    for anchor in anchors:
        cosines = searched @ units[anchor]
        own = itself.get(int(texts[anchor]))
        order = [place for place in np.argsort(-cosines, kind="stable")[: count + 1].tolist() if place != own][:count]
        found.append([(int(places[place]), float(cosines[place])) for place in order])
    return found


def found_within(places: int) -> Metric:
    """Return the metric recall@places: the share of texts whose other one is found so early (the true rank is 1)."""

    def measure(truth: Sequence[float], predictions: Sequence[float]) -> float | None:
        del truth
        return float(np.mean(np.asarray(predictions) <= places)) if len(predictions) else None

    def resampled(truth: Sequence[float], predictions: Sequence[float]) -> Resampled:
        del truth
        found = (np.asarray(predictions, dtype=np.float64) <= places).astype(np.float64)

        def of(block: Floats) -> Floats:
            rows = block.sum(axis=1).astype(np.float64)
            return np.divide(block @ found, rows, out=np.full(len(block), np.nan), where=rows > 0)

        return of

    return Metric(measure, resampled=resampled)
