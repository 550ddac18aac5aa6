"""The metrics as functions of row weights, computed from sums over rows.

The weights of many replicates (B x n) times each row's counts (n x k) give all replicates at once. Undefined is nan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.bio import Span, spans
from polytask.tasks.metric import Floats, Resampled
from polytask.tasks.nested import spans_of

# Numbers of right, true and predicted labels: sparse matrices, labels x rows.
LabelCounts: TypeAlias = tuple[Any, Any, Any]
Build: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], Resampled]


def _sums(block: NDArray[Any], counts: Floats) -> Floats:
    """Return the weighted sums of the rows' counts: replicates x k; in float64, so that BLAS computes the product."""
    return block.astype(np.float64) @ counts


def _label_sums(block: NDArray[Any], counts: Any) -> Floats:  # noqa: ANN401
    """Return the weighted sums of the rows' label counts (labels x rows, sparse): replicates x labels."""
    return np.ascontiguousarray(np.asarray(counts @ block.T.astype(np.float64)).T)


def _ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    return np.divide(above, below, out=np.full_like(above, otherwise), where=below > 0)


def _mean_of(values: Floats, mass: Floats) -> Resampled:
    counts = np.stack([values, mass], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        total = _sums(block, counts)
        return _ratio(total[:, 0], total[:, 1], np.nan)

    return measure


def accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> Resampled:
    """Share of rows that are right."""
    right = np.array([a == b for a, b in zip(labels, predictions, strict=True)], dtype=np.float64)
    return _mean_of(right, np.ones_like(right))


def mae(labels: Sequence[float], predictions: Sequence[float]) -> Resampled:
    """Mean absolute error."""
    distance = np.abs(np.subtract(labels, predictions)).astype(np.float64)
    return _mean_of(distance, np.ones_like(distance))


def quadratic_kappa(labels: Sequence[float], predictions: Sequence[float]) -> Resampled:
    """Cohen's kappa with quadratic weights, from sums of products of positions on the scale."""
    x, y = (np.asarray(side, np.float64) for side in (labels, predictions))
    counts = np.stack([np.ones_like(x), x, y, x * x + y * y, x * y], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        rows, sum_x, sum_y, squares, products = _sums(block, counts).T
        return 1.0 - _ratio(rows * (squares - 2 * products), rows * squares - 2 * sum_x * sum_y, np.nan)

    return measure


def word_accuracy(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> Resampled:
    """Share of words that are right."""
    pairs = list(zip(labels, predictions, strict=True))
    right = [float(sum(a == b for a, b in zip(label, tags, strict=True))) for label, tags in pairs]
    return _mean_of(np.array(right), np.array([float(len(label)) for label, _ in pairs]))


def _label_counts(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], *, aligned: bool
) -> LabelCounts:
    """Count right, true and predicted labels for each row and label: three sparse matrices, labels x rows.

    Sparse, since a row has few labels: with thousands of labels, dense counts of a split would fill the memory.

    Args:
        aligned: compare labels position by position (words), not as sets.
    """
    names = sorted({label for row in (*labels, *predictions) for label in row})
    place = {name: index for index, name in enumerate(names)}
    if aligned:
        pairs = zip(labels, predictions, strict=True)
        right = [[a for a, b in zip(true_set, guess, strict=True) if a == b] for true_set, guess in pairs]
    else:
        right = [list(set(true_set) & set(guess)) for true_set, guess in zip(labels, predictions, strict=True)]
    counts = [_counts(rows, place) for rows in (right, labels, predictions)]
    return counts[0], counts[1], counts[2]


def _counts(rows: Sequence[Sequence[str]], place: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Count each row's labels: labels x rows, sparse."""
    columns = np.fromiter((place[label] for row in rows for label in row), np.int64)
    lines = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    ones = np.ones(len(columns))
    from scipy import sparse

    return sparse.csr_matrix((ones, (columns, lines)), shape=(len(place), len(rows)))  # duplicate entries are added up


def macro(counts: LabelCounts, empty: float) -> Resampled:
    """Return the mean F1 over the labels that occur in a replicate, as in scikit-learn; `empty` if none occur."""

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = (_label_sums(block, matrix) for matrix in counts)
        scores = _ratio(2 * right, true + predicted, 0.0)
        means = _ratio(scores.sum(1), (true + predicted > 0).sum(1).astype(np.float64), empty)
        return np.where(block.sum(1) > 0, means, np.nan)

    return measure


def micro(counts: LabelCounts, empty: float) -> Resampled:
    """Return the F1 over all decisions."""
    totals = np.stack([np.asarray(matrix.sum(0)).ravel() for matrix in counts], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = _sums(block, totals).T
        return np.where(block.sum(1) > 0, _ratio(2 * right, true + predicted, empty), np.nan)

    return measure


def f1(over: Callable[[LabelCounts, float], Resampled]) -> Build:
    """Return a builder of the F1, `micro` or `macro`, for one label per row or for sets of labels."""

    def build(labels: Sequence[Any], predictions: Sequence[Any]) -> Resampled:
        several = bool(labels) and isinstance(labels[0], list)
        rows = [values if several else [[value] for value in values] for values in (labels, predictions)]
        # Rows without labels or predictions are all right.
        return over(_label_counts(rows[0], rows[1], aligned=False), 1.0 if several else np.nan)

    return build


def word_macro_f1(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> Resampled:
    """Mean F1 over the words' tags."""
    return macro(_label_counts(labels, predictions, aligned=True), np.nan)


def mcc(labels: Sequence[str], predictions: Sequence[str]) -> Resampled:
    """Matthews correlation from the margins of the confusion matrix (Gorodkin, 2004)."""
    counts = _label_counts([[value] for value in labels], [[value] for value in predictions], aligned=True)

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = (_label_sums(block, matrix) for matrix in counts)
        rows = true.sum(1)
        shared = right.sum(1) * rows - (true * predicted).sum(1)
        spread = (rows**2 - (true**2).sum(1)) * (rows**2 - (predicted**2).sum(1))
        return np.where(rows > 0, _ratio(shared, np.sqrt(np.maximum(spread, 0.0)), 0.0), np.nan)

    return measure


def _varies(block: NDArray[Any], values: Floats) -> NDArray[np.bool_]:
    """Return in which replicates the drawn values are not all equal."""
    present = block > 0
    return np.where(present, values, -np.inf).max(1, initial=-np.inf) > np.where(present, values, np.inf).min(
        1, initial=np.inf
    )


def _centred(side: Floats) -> Floats:
    """Return values centred on their mean and scaled to at most 1: otherwise squares could cancel or overflow."""
    scaled = side / max(float(np.abs(side).max(initial=0.0)), np.finfo(np.float64).tiny)
    centred = scaled - (scaled.mean() if len(side) else 0.0)
    return centred / (float(np.abs(centred).max(initial=0.0)) or 1.0)


def pearson(labels: Sequence[float], predictions: Sequence[float]) -> Resampled:
    """Linear correlation, from sums of products of centred values."""
    sides = [np.asarray(side, dtype=np.float64) for side in (labels, predictions)]
    x, y = map(_centred, sides)
    counts = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        sums = _sums(block, counts)
        mass = np.maximum(sums[:, 0], 1.0)
        mean_x, mean_y, xx, yy, xy = (sums[:, 1:] / mass[:, None]).T
        product = np.maximum(xx - mean_x**2, 0.0) * np.maximum(yy - mean_y**2, 0.0)
        value = np.clip(_ratio(xy - mean_x * mean_y, np.sqrt(product), np.nan), -1.0, 1.0)
        return np.where(_varies(block, x) & _varies(block, y), value, np.nan)

    return measure


def _ranks(block: NDArray[Any], order: NDArray[np.intp], starts: NDArray[np.intp], group: NDArray[np.intp]) -> Floats:
    """Return each row's average rank among the drawn rows: replicates x rows."""
    drawn = np.add.reduceat(block[:, order], starts, axis=1).astype(np.float64)
    return (np.cumsum(drawn, axis=1) - drawn / 2 + 0.5)[:, group]


def _groups(values: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows ordered by value, the start of each group of equal values in that order, and each row's group."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return order, starts, group


def spearman(labels: Sequence[float], predictions: Sequence[float]) -> Resampled:
    """Rank correlation, from the average ranks among the drawn rows."""
    sides = [np.asarray(side, dtype=np.float64) for side in (labels, predictions)]
    groups = [_groups(side) for side in sides]

    def measure(block: NDArray[Any]) -> Floats:
        if not block.shape[1]:
            return np.full(len(block), np.nan)
        middle = (block.sum(1, keepdims=True) + 1) / 2  # the mean of average ranks
        x, y = (_ranks(block, *group) - middle for group in groups)
        spread = np.sqrt((block * x * x).sum(1) * (block * y * y).sum(1))
        value = np.clip(_ratio((block * x * y).sum(1), spread, np.nan), -1.0, 1.0)
        return np.where(_varies(block, sides[0]) & _varies(block, sides[1]), value, np.nan)

    return measure


def _spans(parse: Callable[[Sequence[str]], Sequence[Span]], over: Callable[[Floats, Floats, Floats], Floats]) -> Build:
    def build(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> Resampled:
        counts = np.zeros((len(labels), 3))
        for row, (label, guess_tags) in enumerate(zip(labels, predictions, strict=True)):
            true, guess = set(parse(label)), set(parse(guess_tags))
            counts[row] = len(true & guess), len(true), len(guess)

        def measure(block: NDArray[Any]) -> Floats:
            right, true, predicted = _sums(block, counts).T
            return over(right, true, predicted)

        return measure

    return build


def _f1_of_counts(right: Floats, true: Floats, predicted: Floats) -> Floats:
    return _ratio(2 * right, true + predicted, 0.0)


def _precision_of_counts(right: Floats, true: Floats, predicted: Floats) -> Floats:
    del true
    return _ratio(right, predicted, 0.0)


def _recall_of_counts(right: Floats, true: Floats, predicted: Floats) -> Floats:
    del predicted
    return _ratio(right, true, 0.0)


entity_f1, span_f1 = (_spans(parse, _f1_of_counts) for parse in (spans, spans_of))
entity_precision, span_precision = (_spans(parse, _precision_of_counts) for parse in (spans, spans_of))
entity_recall, span_recall = (_spans(parse, _recall_of_counts) for parse in (spans, spans_of))


def _of_positive(over: Callable[[Floats, Floats, Floats], Floats]) -> Build:
    def build(labels: Sequence[bool], predictions: Sequence[bool]) -> Resampled:
        true, guess = (np.array(side, np.bool_) for side in (labels, predictions))
        counts = np.stack([true & guess, true, guess], axis=1).astype(np.float64)

        def measure(block: NDArray[Any]) -> Floats:
            right, positive, predicted = _sums(block, counts).T
            return np.where(block.sum(1) > 0, over(right, positive, predicted), np.nan)

        return measure

    return build


positive_f1, positive_precision, positive_recall = (
    _of_positive(over) for over in (_f1_of_counts, _precision_of_counts, _recall_of_counts)
)


def _of_order(over: Callable[[Floats, Floats], Floats]) -> Build:
    """Return a builder of a metric that depends on the order of rows by a probability.

    Args:
        over: function of the numbers of positive and of other rows with each probability, in descending order of the
            probability: replicates x probabilities; each replicate has rows of both kinds.
    """

    def build(labels: Sequence[bool], probabilities: Sequence[float]) -> Resampled:
        true = np.asarray(labels, np.float64)
        order, starts, _ = _groups(-np.asarray(probabilities, np.float64))

        def measure(block: NDArray[Any]) -> Floats:
            values = np.full(len(block), np.nan)
            if not block.shape[1]:
                return values
            drawn, right = (np.add.reduceat(part[:, order], starts, axis=1) for part in (block, block * true))
            positive, others = right.astype(np.float64), (drawn - right).astype(np.float64)
            defined = (positive.sum(1) > 0) & (others.sum(1) > 0)
            values[defined] = over(positive[defined], others[defined])
            return values

        return measure

    return build


def _roc_auc(positive: Floats, others: Floats) -> Floats:
    below = others.sum(1, keepdims=True) - np.cumsum(others, axis=1) + others / 2
    return (positive * below).sum(1) / (positive.sum(1) * others.sum(1))


def _average_precision(positive: Floats, others: Floats) -> Floats:
    right = np.cumsum(positive, axis=1)
    precision = _ratio(right, right + np.cumsum(others, axis=1), 0.0)
    return (positive * precision).sum(1) / positive.sum(1)


roc_auc, average_precision = _of_order(_roc_auc), _of_order(_average_precision)
