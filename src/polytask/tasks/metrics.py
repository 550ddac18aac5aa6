"""The metrics of polytask. A new metric is one function and one row of MEASURED.

A correlation with a constant is undefined, as is any metric of no rows: None, never 0. Precision, recall and F1 are
0 if the denominator is 0, as in scikit-learn and seqeval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from polytask.tasks import cuts, resampling, two_class
from polytask.tasks.bio import spans
from polytask.tasks.metric import Floats, Level, Metric
from polytask.tasks.nearest import found_within
from polytask.tasks.nested import spans_of


def _f1(labels: Sequence[Any], predictions: Sequence[Any], average: Literal["micro", "macro"]) -> float | None:
    """F1 over the labels that occur in the truth or in the predictions, so that unseen labels count as errors."""
    if not labels:
        return None
    pairs = zip(labels, predictions, strict=True)
    if isinstance(labels[0], list):
        right = Counter(chain.from_iterable(set(true_set) & set(guess) for true_set, guess in pairs))
        return _f1_of(right, _occurrences(labels), _occurrences(predictions), average)
    right = Counter(label for label, guess in pairs if label == guess)
    return _f1_of(right, Counter(labels), Counter(predictions), average)


def _occurrences(rows: Iterable[Collection[str]]) -> Counter[str]:
    """Count the rows that have each label."""
    return Counter(chain.from_iterable(map(set, rows)))


def _f1_of(right: Counter[Any], true: Counter[Any], predicted: Counter[Any], average: str) -> float:
    if average == "micro":
        chosen = true.total() + predicted.total()
        return 2 * right.total() / chosen if chosen else 1.0  # no row has a label, and none is predicted
    # In the order of the labels, so that floating-point sums do not depend on the order of the rows.
    each = [2 * right[label] / (true[label] + predicted[label]) for label in sorted({*true, *predicted})]
    return float(np.mean(each)) if each else 1.0


def accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """Share of rows that are right; for several labels, the whole set has to be right."""
    right = sum(a == b for a, b in zip(labels, predictions, strict=True))
    return right / len(labels) if labels else None


def macro_f1(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """Mean F1 over labels."""
    return _f1(labels, predictions, "macro")


def micro_f1(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """F1 over all decisions."""
    return _f1(labels, predictions, "micro")


def mcc(labels: Sequence[str], predictions: Sequence[str]) -> float | None:
    """Matthews correlation coefficient; 0 if the truth or the predictions hold only one class."""
    if not labels:
        return None
    right = sum(a == b for a, b in zip(labels, predictions, strict=True))
    true, predicted, rows = Counter(labels), Counter(predictions), len(labels)
    shared = right * rows - _dot(true, predicted)
    spread = (rows**2 - _dot(true, true)) * (rows**2 - _dot(predicted, predicted))
    return shared / math.sqrt(spread) if spread else 0.0


def _dot(counts: Counter[str], others: Counter[str]) -> int:
    return sum(count * others[label] for label, count in counts.items())


def _varies(values: Sequence[float]) -> bool:
    return len(values) > 1 and bool(np.ptp(values))


def _direction(values: Any) -> Floats:  # noqa: ANN401
    """Return values that are not all equal as a vector of length 1 around their mean."""
    scaled = np.asarray(values, np.float64) / np.abs(values).max()  # so that neither squares nor sums overflow
    centred = scaled - scaled.mean()
    centred /= np.abs(centred).max()
    return centred / np.linalg.norm(centred)


def _ranks(values: Sequence[float]) -> Floats:
    """Return the rank of each value; equal values have their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def pearson(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Linear correlation; undefined for constants."""
    if not (_varies(labels) and _varies(predictions)):
        return None
    return float(np.clip(_direction(labels) @ _direction(predictions), -1.0, 1.0))


def spearman(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Rank correlation: the linear correlation of the ranks."""
    return pearson(_ranks(labels).tolist(), _ranks(predictions).tolist())


def mae(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Mean absolute error, in the label's unit; smaller is better."""
    return float(np.abs(np.subtract(labels, predictions)).mean()) if labels else None


def quadratic_kappa(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Cohen's kappa with quadratic weights, of positions on a scale: 1 - squared distances / those expected by chance.

    Source: Cohen 1968, "Weighted kappa". Undefined if the truth and the predictions are the same constant.
    """
    true, predicted = np.asarray(labels, np.float64), np.asarray(predictions, np.float64)
    squares = float(true @ true + predicted @ predicted)
    # Multiplied by the number of rows, so that the sums are whole numbers without rounding errors.
    by_chance = len(true) * squares - 2 * float(true.sum() * predicted.sum())
    return 1.0 - len(true) * (squares - 2 * float(true @ predicted)) / by_chance if by_chance else None


def _entity_counts(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> tuple[int, int, int]:
    """Count right, true and predicted entities under strict IOB2."""
    right = true = predicted = 0
    for true_tags, tags in zip(labels, predictions, strict=True):
        true_spans, guess = set(spans(true_tags)), set(spans(tags))
        right, true, predicted = right + len(true_spans & guess), true + len(true_spans), predicted + len(guess)
    return right, true, predicted


def entity_precision(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Share of predicted entities whose label and boundaries are right."""
    right, _, predicted = _entity_counts(labels, predictions)
    return right / predicted if predicted else 0.0


def entity_recall(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Share of true entities that are found."""
    right, true, _ = _entity_counts(labels, predictions)
    return right / true if true else 0.0


def entity_f1(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Harmonic mean of entity precision and recall; equal to seqeval's strict IOB2 figure."""
    right, true, predicted = _entity_counts(labels, predictions)
    return 2 * right / (true + predicted) if true + predicted else 0.0


def word_accuracy(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float | None:
    """Share of words whose tag is right."""
    pairs = [pair for label, tags in zip(labels, predictions, strict=True) for pair in zip(label, tags, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def word_macro_f1(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float | None:
    """Mean F1 over the words' tags."""
    flat = [[tag for row in rows for tag in row] for rows in (labels, predictions)]
    return _f1(flat[0], flat[1], "macro") if flat[0] else None


def _span_counts(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> tuple[int, int, int]:
    """Count right, true and predicted spans, which may be nested."""
    pairs = [(set(spans_of(label)), set(spans_of(guess))) for label, guess in zip(labels, predictions, strict=True)]
    right = sum(len(true & guess) for true, guess in pairs)
    return right, sum(len(true) for true, _ in pairs), sum(len(guess) for _, guess in pairs)


def span_precision(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Share of predicted spans whose label and boundaries are right."""
    right, _, predicted = _span_counts(labels, predictions)
    return right / predicted if predicted else 0.0


def span_recall(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Share of true spans that are found."""
    right, true, _ = _span_counts(labels, predictions)
    return right / true if true else 0.0


def span_f1(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Harmonic mean of the precision and recall of spans."""
    right, true, predicted = _span_counts(labels, predictions)
    return 2 * right / (true + predicted) if true + predicted else 0.0


def _positive_counts(labels: Sequence[bool], predictions: Sequence[bool]) -> tuple[int, int, int]:
    """Count the true positives, the positive rows and the positive predictions."""
    right = sum(label and guess for label, guess in zip(labels, predictions, strict=True))
    return right, sum(labels), sum(predictions)


def positive_precision(labels: Sequence[bool], predictions: Sequence[bool]) -> float | None:
    """Share of positive predictions that are right."""
    right, _, predicted = _positive_counts(labels, predictions)
    return (right / predicted if predicted else 0.0) if labels else None


def positive_recall(labels: Sequence[bool], predictions: Sequence[bool]) -> float | None:
    """Share of positive rows that are predicted so."""
    right, true, _ = _positive_counts(labels, predictions)
    return (right / true if true else 0.0) if labels else None


def positive_f1(labels: Sequence[bool], predictions: Sequence[bool]) -> float | None:
    """Harmonic mean of the precision and recall of the positive label."""
    right, true, predicted = _positive_counts(labels, predictions)
    return (2 * right / (true + predicted) if true + predicted else 0.0) if labels else None


def roc_auc(labels: Sequence[bool], probabilities: Sequence[float]) -> float | None:
    """Area under the ROC curve: how often a positive row has a greater probability than another; ties count half.

    Undefined if all rows are positive, or none.
    """
    true = np.asarray(labels, np.bool_)
    positive, others = int(true.sum()), int((~true).sum())
    if not positive or not others:
        return None
    above = float(_ranks(probabilities)[true].sum()) - positive * (positive + 1) / 2
    return above / (positive * others)


def average_precision(labels: Sequence[bool], probabilities: Sequence[float]) -> float | None:
    """Average precision: the mean, over the positive rows, of the precision with their probability as the threshold.

    Undefined if all rows are positive, or none.
    """
    true, values = np.asarray(labels, np.bool_), np.asarray(probabilities, np.float64)
    if true.all() or not true.any():
        return None
    all_values, positive = -np.sort(-values), -np.sort(-values[true])
    # For each positive row, the numbers of rows and of positive rows that are at least as probable.
    above, right = (np.searchsorted(-side, -positive, side="right") for side in (all_values, positive))
    return float((right / above).mean())


MEASURED: dict[Level, dict[str, Metric]] = {
    "row": {
        # The accuracy of whole sets is not a sum over labels: thresholds are tuned for the accuracy of each label.
        "accuracy": Metric(
            accuracy, resampled=resampling.accuracy, objective=cuts.right_cuts, of_counts=two_class.accuracy
        ),
        "macro_f1": Metric(
            macro_f1, resampled=resampling.f1(resampling.macro), objective=cuts.f1_cuts, of_counts=two_class.macro_f1
        ),
        "micro_f1": Metric(
            micro_f1,
            resampled=resampling.f1(resampling.micro),
            objective=cuts.micro_f1_cuts,
            of_counts=two_class.accuracy,  # each row has one label and one prediction
        ),
        "mcc": Metric(mcc, resampled=resampling.mcc, of_counts=two_class.mcc),
        "f1": Metric(positive_f1, "positive", resampled=resampling.positive_f1, of_counts=two_class.f1),
        # The best threshold for one of these alone would predict the label for hardly any row, or for all.
        "precision": Metric(positive_precision, "positive", resampled=resampling.positive_precision),
        "recall": Metric(positive_recall, "positive", resampled=resampling.positive_recall),
        "roc_auc": Metric(roc_auc, "probabilities", resampled=resampling.roc_auc),
        "average_precision": Metric(average_precision, "probabilities", resampled=resampling.average_precision),
        "pearson": Metric(pearson, resampled=resampling.pearson),
        "spearman": Metric(spearman, resampled=resampling.spearman),
        "mae": Metric(mae, smaller_is_better=True, resampled=resampling.mae),
        # Of the texts' losses, with labels of 0.
        "loss": Metric(mae, smaller_is_better=True, resampled=resampling.mae),
        "recall@1": found_within(1),
        "recall@10": found_within(10),
        "quadratic_kappa": Metric(quadratic_kappa, resampled=resampling.quadratic_kappa),
        # Without a confidence interval: resampling biases ECE upwards.
        "ece": Metric(None, smaller_is_better=True, interval=False),
        "cross_entropy": Metric(None, smaller_is_better=True, interval=False),
    },
    "word": {
        "f1": Metric(entity_f1, resampled=resampling.entity_f1),
        "precision": Metric(entity_precision, resampled=resampling.entity_precision),
        "recall": Metric(entity_recall, resampled=resampling.entity_recall),
        "span_f1": Metric(span_f1, resampled=resampling.span_f1),
        "span_precision": Metric(span_precision, resampled=resampling.span_precision),
        "span_recall": Metric(span_recall, resampled=resampling.span_recall),
        "accuracy": Metric(word_accuracy, resampled=resampling.word_accuracy),
        "macro_f1": Metric(word_macro_f1, resampled=resampling.word_macro_f1),
        "ece": Metric(None, smaller_is_better=True, interval=False),
    },
}
