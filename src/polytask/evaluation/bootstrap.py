"""The bootstrap over rows (Efron, 1979): how much a score would vary with other rows of the same kind.

A replicate gives every row a whole-number weight. Each metric is a function of sums over rows, so the weights of many
replicates (B x n) times what each row counts (n x k) give all replicates at once. Undefined is nan here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from polytask.tasks import Task
from polytask.tasks.bio import spans
from polytask.terms import Gold

Floats: TypeAlias = NDArray[np.float64]
# Weights of rows, replicates x rows, to the metric in each replicate.
Resampled: TypeAlias = Callable[[NDArray[Any]], Floats]
# What is right, true and predicted: sparse matrices, labels x rows.
LabelCounts: TypeAlias = tuple[Any, Any, Any]
Build: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], Resampled]

BLOCK = 100  # replicates at once
_CELLS = 4_000_000  # weights at once: a block of long splits holds fewer replicates


def weights(rows: int, count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw how often each row occurs in each of `count` samples with replacement, in blocks of replicates x rows."""
    generator = np.random.default_rng(seed)
    size = max(1, min(BLOCK, _CELLS // max(rows, 1)))
    for start in range(0, count if rows else 0, size):
        block = min(size, count - start)
        drawn = generator.integers(rows, size=(block, rows)) + rows * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * rows).reshape(block, rows)


def interval(values: Sequence[float] | Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval; None where more than half of the replicates are undefined."""
    found = np.asarray(values, dtype=np.float64)
    defined = found[np.isfinite(found)]
    if not len(defined) or 2 * len(defined) < len(found):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled(level: Literal["row", "word"], metric: str, truth: Sequence[Any], found: Sequence[Any]) -> Resampled:
    """Return a metric of METRICS as a function of the rows' weights."""
    return RESAMPLED[level][metric](truth, found)


def score_intervals(
    task: Task, golds: Sequence[Gold], found: Sequence[Gold], *, resamples: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Return the 95 % interval of every metric of a task; None where it is undefined."""
    measures = {metric: resampled(task.level, metric, golds, found) for metric in task.metrics}
    values: dict[str, list[Floats]] = {metric: [] for metric in measures}
    for block in weights(len(golds), resamples, seed):
        for metric, measure in measures.items():
            values[metric].append(measure(block))
    return {metric: interval(np.concatenate(blocks)) if blocks else None for metric, blocks in values.items()}


def _sums(block: NDArray[Any], counts: Floats) -> Floats:
    """Sum what the rows count: replicates x k of float64, so that the product is a library's."""
    return block.astype(np.float64) @ counts


def _label_sums(block: NDArray[Any], counts: Any) -> Floats:  # noqa: ANN401
    """Sum what the rows count of each label (labels x rows, sparse): replicates x labels."""
    return np.ascontiguousarray(np.asarray(counts @ block.T.astype(np.float64)).T)


def _ratio(above: Floats, below: Floats, otherwise: float) -> Floats:
    return np.divide(above, below, out=np.full_like(above, otherwise), where=below > 0)


def _mean_of(values: Floats, mass: Floats) -> Resampled:
    counts = np.stack([values, mass], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        total = _sums(block, counts)
        return _ratio(total[:, 0], total[:, 1], np.nan)

    return measure


def _accuracy(truth: Sequence[Any], found: Sequence[Any]) -> Resampled:
    right = np.array([a == b for a, b in zip(truth, found, strict=True)], dtype=np.float64)
    return _mean_of(right, np.ones_like(right))


def _mae(truth: Sequence[float], found: Sequence[float]) -> Resampled:
    distance = np.abs(np.subtract(truth, found)).astype(np.float64)
    return _mean_of(distance, np.ones_like(distance))


def _word_accuracy(truth: Sequence[list[str]], found: Sequence[list[str]]) -> Resampled:
    pairs = list(zip(truth, found, strict=True))
    right = [float(sum(a == b for a, b in zip(gold, tags, strict=True))) for gold, tags in pairs]
    return _mean_of(np.array(right), np.array([float(len(gold)) for gold, _ in pairs]))


def _label_counts(truth: Sequence[Sequence[str]], found: Sequence[Sequence[str]], *, aligned: bool) -> LabelCounts:
    """Count for each row and label what is right, true and predicted: three sparse matrices, labels x rows.

    Sparse, since a row has few labels: with thousands of them dense counts of a split would fill the memory.

    Args:
        aligned: labels are compared place by place (words), not as sets.
    """
    names = sorted({label for row in (*truth, *found) for label in row})
    place = {name: index for index, name in enumerate(names)}
    if aligned:
        pairs = zip(truth, found, strict=True)
        right = [[a for a, b in zip(gold, guess, strict=True) if a == b] for gold, guess in pairs]
    else:
        right = [list(set(gold) & set(guess)) for gold, guess in zip(truth, found, strict=True)]
    made = [_counts(rows, place) for rows in (right, truth, found)]
    return made[0], made[1], made[2]


def _counts(rows: Sequence[Sequence[str]], place: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Count each row's labels: labels x rows, sparse."""
    columns = np.fromiter((place[label] for row in rows for label in row), np.int64)
    lines = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    ones = np.ones(len(columns))
    return sparse.csr_matrix((ones, (columns, lines)), shape=(len(place), len(rows)))  # equal places are added


def _macro(counts: LabelCounts, empty: float) -> Resampled:
    """Return the mean F1 over the labels that occur in a replicate, as scikit-learn takes it; `empty` where none do."""

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = (_label_sums(block, one) for one in counts)
        each = _ratio(2 * right, true + predicted, 0.0)
        found = _ratio(each.sum(1), (true + predicted > 0).sum(1).astype(np.float64), empty)
        return np.where(block.sum(1) > 0, found, np.nan)

    return measure


def _micro(counts: LabelCounts, empty: float) -> Resampled:
    """Return the F1 over all decisions."""
    totals = np.stack([np.asarray(one.sum(0)).ravel() for one in counts], axis=1)

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = _sums(block, totals).T
        return np.where(block.sum(1) > 0, _ratio(2 * right, true + predicted, empty), np.nan)

    return measure


def _f1(over: Callable[[LabelCounts, float], Resampled]) -> Build:
    def build(truth: Sequence[Any], found: Sequence[Any]) -> Resampled:
        several = bool(truth) and isinstance(truth[0], list)
        rows = [values if several else [[value] for value in values] for values in (truth, found)]
        # Rows without any label, and none given, are all right.
        return over(_label_counts(rows[0], rows[1], aligned=False), 1.0 if several else np.nan)

    return build


def _word_macro_f1(truth: Sequence[list[str]], found: Sequence[list[str]]) -> Resampled:
    return _macro(_label_counts(truth, found, aligned=True), np.nan)


def _mcc(truth: Sequence[str], found: Sequence[str]) -> Resampled:
    """Matthews correlation from the margins of the confusion matrix (Gorodkin, 2004)."""
    counts = _label_counts([[value] for value in truth], [[value] for value in found], aligned=True)

    def measure(block: NDArray[Any]) -> Floats:
        right, true, predicted = (_label_sums(block, one) for one in counts)
        rows = true.sum(1)
        shared = right.sum(1) * rows - (true * predicted).sum(1)
        spread = (rows**2 - (true**2).sum(1)) * (rows**2 - (predicted**2).sum(1))
        return np.where(rows > 0, _ratio(shared, np.sqrt(np.maximum(spread, 0.0)), 0.0), np.nan)

    return measure


def _varies(block: NDArray[Any], values: Floats) -> NDArray[np.bool_]:
    """Say in which replicates the drawn values are not all the same."""
    present = block > 0
    return np.where(present, values, -np.inf).max(1, initial=-np.inf) > np.where(present, values, np.inf).min(
        1, initial=np.inf
    )


def _pearson(truth: Sequence[float], found: Sequence[float]) -> Resampled:
    sides = [np.asarray(side, dtype=np.float64) for side in (truth, found)]
    # Centred first: sums of squares of values far from zero would cancel.
    x, y = (side - (side.mean() if len(side) else 0.0) for side in sides)
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
    """Return the rows by value, where each group of equal values starts among them, and each row's group."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return order, starts, group


def _spearman(truth: Sequence[float], found: Sequence[float]) -> Resampled:
    sides = [np.asarray(side, dtype=np.float64) for side in (truth, found)]
    groups = [_groups(side) for side in sides]

    def measure(block: NDArray[Any]) -> Floats:
        if not block.shape[1]:
            return np.full(len(block), np.nan)
        middle = (block.sum(1, keepdims=True) + 1) / 2  # the mean of average ranks
        x, y = (_ranks(block, *found) - middle for found in groups)
        spread = np.sqrt((block * x * x).sum(1) * (block * y * y).sum(1))
        value = np.clip(_ratio((block * x * y).sum(1), spread, np.nan), -1.0, 1.0)
        return np.where(_varies(block, sides[0]) & _varies(block, sides[1]), value, np.nan)

    return measure


def _entities(over: Callable[[Floats, Floats, Floats], Floats]) -> Build:
    def build(truth: Sequence[list[str]], found: Sequence[list[str]]) -> Resampled:
        counts = np.zeros((len(truth), 3))
        for row, (gold_tags, tags) in enumerate(zip(truth, found, strict=True)):
            gold, guess = set(spans(gold_tags)), set(spans(tags))
            counts[row] = len(gold & guess), len(gold), len(guess)

        def measure(block: NDArray[Any]) -> Floats:
            right, true, predicted = _sums(block, counts).T
            return over(right, true, predicted)

        return measure

    return build


RESAMPLED: dict[Literal["row", "word"], dict[str, Build]] = {
    "row": {
        "accuracy": _accuracy,
        "macro_f1": _f1(_macro),
        "micro_f1": _f1(_micro),
        "mcc": _mcc,
        "pearson": _pearson,
        "spearman": _spearman,
        "mae": _mae,
    },
    "word": {
        "f1": _entities(lambda right, true, predicted: _ratio(2 * right, true + predicted, 0.0)),
        "precision": _entities(lambda right, _, predicted: _ratio(right, predicted, 0.0)),
        "recall": _entities(lambda right, true, _: _ratio(right, true, 0.0)),
        "accuracy": _word_accuracy,
        "macro_f1": _word_macro_f1,
    },
}
