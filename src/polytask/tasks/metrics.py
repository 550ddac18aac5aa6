"""The metrics of polytask. A new one is one function and one row of MEASURED.

A correlation with a constant is undefined, and so is any metric of no rows: None, never 0. Precision, recall and F1
are 0 where there is nothing to divide by, as in scikit-learn and seqeval.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from polytask.tasks import cuts, resampling
from polytask.tasks.bio import spans
from polytask.tasks.metric import Level, Metric


def _f1(labels: Sequence[Any], predictions: Sequence[Any], average: Literal["micro", "macro"]) -> float | None:
    """F1 over the labels that occur in the truth or in the predictions, so that unseen labels count as errors."""
    if not labels:
        return None
    if not isinstance(labels[0], list):
        return _library_f1(labels, predictions, average)
    names = sorted({label for row in (*labels, *predictions) for label in row})
    if not names:
        return 1.0  # no row has a label, and none was given
    place = {name: index for index, name in enumerate(names)}
    chosen = [sets_matrix(rows, place) for rows in (labels, predictions)]
    if len(names) == 1:  # one column is no matrix of labels to the library, but a yes and no
        return _library_f1(chosen[0].toarray()[:, 0], chosen[1].toarray()[:, 0], "binary")
    return _library_f1(chosen[0], chosen[1], average)


def sets_matrix(rows: Sequence[Collection[str]], place: Mapping[str, int]) -> Any:  # noqa: ANN401
    """Return sets of labels as a sparse matrix, rows x labels of 0 and 1: in the size of what the rows hold.

    Args:
        place: the column of each label.
    """
    sets = [sorted({place[label] for label in row}) for row in rows]
    ends = np.cumsum([0, *map(len, sets)])
    columns = np.fromiter(chain.from_iterable(sets), np.int64, count=int(ends[-1]))
    from scipy import sparse

    return sparse.csr_matrix((np.ones(len(columns), np.int64), columns, ends), shape=(len(sets), len(place)))


def _library_f1(labels: Any, predictions: Any, average: str) -> float:  # noqa: ANN401
    from sklearn import metrics as sk

    return float(sk.f1_score(labels, predictions, average=average, zero_division=0))  # pyright: ignore[reportArgumentType]


def accuracy(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """Share of rows that are right; for several labels a row is right when its whole set is."""
    right = sum(a == b for a, b in zip(labels, predictions, strict=True))
    return right / len(labels) if labels else None


def macro_f1(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """Mean F1 over labels."""
    return _f1(labels, predictions, "macro")


def micro_f1(labels: Sequence[Any], predictions: Sequence[Any]) -> float | None:
    """F1 over all decisions."""
    return _f1(labels, predictions, "micro")


def mcc(labels: Sequence[str], predictions: Sequence[str]) -> float | None:
    """Matthews correlation coefficient; 0 where the truth or the predictions hold one class only."""
    if not labels:
        return None
    from sklearn import metrics as sk

    return float(sk.matthews_corrcoef(labels, predictions)) if len({*labels, *predictions}) > 1 else 0.0


def _correlation(name: str, labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    if len(labels) < 2 or np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return None  # a constant has no correlation with anything
    from scipy import stats

    with warnings.catch_warnings(action="ignore", category=stats.NearConstantInputWarning):
        value = float(getattr(stats, name)(labels, predictions).statistic)
    return value if np.isfinite(value) else None


def pearson(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Linear correlation."""
    return _correlation("pearsonr", labels, predictions)


def spearman(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Rank correlation."""
    return _correlation("spearmanr", labels, predictions)


def mae(labels: Sequence[float], predictions: Sequence[float]) -> float | None:
    """Mean absolute error, in the label's unit; smaller is better."""
    return float(np.abs(np.subtract(labels, predictions)).mean()) if labels else None


def _entity_counts(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> tuple[int, int, int]:
    """Count right, true and predicted entities under strict IOB2."""
    right = true = predicted = 0
    for true_tags, tags in zip(labels, predictions, strict=True):
        true_spans, guess = set(spans(true_tags)), set(spans(tags))
        right, true, predicted = right + len(true_spans & guess), true + len(true_spans), predicted + len(guess)
    return right, true, predicted


def entity_precision(labels: Sequence[list[str]], predictions: Sequence[list[str]]) -> float:
    """Share of predicted entities that are right in label and both ends."""
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


MEASURED: dict[Level, dict[str, Metric]] = {
    "row": {
        # The accuracy of whole sets is not a sum over labels: each label's own decisions stand for it.
        "accuracy": Metric(accuracy, resampled=resampling.accuracy, objective=cuts.right_cuts),
        "macro_f1": Metric(macro_f1, resampled=resampling.f1(resampling.macro), objective=cuts.f1_cuts),
        "micro_f1": Metric(micro_f1, resampled=resampling.f1(resampling.micro), objective=cuts.micro_f1_cuts),
        "mcc": Metric(mcc, resampled=resampling.mcc),
        "pearson": Metric(pearson, resampled=resampling.pearson),
        "spearman": Metric(spearman, resampled=resampling.spearman),
        "mae": Metric(mae, smaller_is_better=True, resampled=resampling.mae),
        # Of probabilities: a sum of distances, which resampled rows can only make greater.
        "ece": Metric(None, smaller_is_better=True, interval=False),
    },
    "word": {
        "f1": Metric(entity_f1, resampled=resampling.entity_f1),
        "precision": Metric(entity_precision, resampled=resampling.entity_precision),
        "recall": Metric(entity_recall, resampled=resampling.entity_recall),
        "accuracy": Metric(word_accuracy, resampled=resampling.word_accuracy),
        "macro_f1": Metric(word_macro_f1, resampled=resampling.word_macro_f1),
        "ece": Metric(None, smaller_is_better=True, interval=False),
    },
}
