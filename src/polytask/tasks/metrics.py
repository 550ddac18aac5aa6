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


def _f1(truth: Sequence[Any], found: Sequence[Any], average: Literal["micro", "macro"]) -> float | None:
    """F1 over the labels that occur in the truth or in the predictions, so that unseen labels count as errors."""
    if not truth:
        return None
    if not isinstance(truth[0], list):
        return _library_f1(truth, found, average)
    names = sorted({label for row in (*truth, *found) for label in row})
    if not names:
        return 1.0  # no row has a label, and none was given
    place = {name: index for index, name in enumerate(names)}
    chosen = [sets_matrix(rows, place) for rows in (truth, found)]
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


def _library_f1(truth: Any, found: Any, average: str) -> float:  # noqa: ANN401
    from sklearn import metrics as sk

    return float(sk.f1_score(truth, found, average=average, zero_division=0))  # pyright: ignore[reportArgumentType]


def accuracy(truth: Sequence[Any], found: Sequence[Any]) -> float | None:
    """Share of rows that are right; for several labels a row is right when its whole set is."""
    right = sum(a == b for a, b in zip(truth, found, strict=True))
    return right / len(truth) if truth else None


def macro_f1(truth: Sequence[Any], found: Sequence[Any]) -> float | None:
    """Mean F1 over labels."""
    return _f1(truth, found, "macro")


def micro_f1(truth: Sequence[Any], found: Sequence[Any]) -> float | None:
    """F1 over all decisions."""
    return _f1(truth, found, "micro")


def mcc(truth: Sequence[str], found: Sequence[str]) -> float | None:
    """Matthews correlation coefficient; 0 where the truth or the predictions hold one class only."""
    if not truth:
        return None
    from sklearn import metrics as sk

    return float(sk.matthews_corrcoef(truth, found)) if len({*truth, *found}) > 1 else 0.0


def _correlation(name: str, truth: Sequence[float], found: Sequence[float]) -> float | None:
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(found) == 0:
        return None  # a constant has no correlation with anything
    from scipy import stats

    with warnings.catch_warnings(action="ignore", category=stats.NearConstantInputWarning):
        value = float(getattr(stats, name)(truth, found).statistic)
    return value if np.isfinite(value) else None


def pearson(truth: Sequence[float], found: Sequence[float]) -> float | None:
    """Linear correlation."""
    return _correlation("pearsonr", truth, found)


def spearman(truth: Sequence[float], found: Sequence[float]) -> float | None:
    """Rank correlation."""
    return _correlation("spearmanr", truth, found)


def mae(truth: Sequence[float], found: Sequence[float]) -> float | None:
    """Mean absolute error, in the label's unit; smaller is better."""
    return float(np.abs(np.subtract(truth, found)).mean()) if truth else None


def _entity_counts(truth: Sequence[list[str]], found: Sequence[list[str]]) -> tuple[int, int, int]:
    """Count right, true and predicted entities under strict IOB2."""
    right = true = predicted = 0
    for gold_tags, tags in zip(truth, found, strict=True):
        gold, guess = set(spans(gold_tags)), set(spans(tags))
        right, true, predicted = right + len(gold & guess), true + len(gold), predicted + len(guess)
    return right, true, predicted


def entity_precision(truth: Sequence[list[str]], found: Sequence[list[str]]) -> float:
    """Share of predicted entities that are right in label and both ends."""
    right, _, predicted = _entity_counts(truth, found)
    return right / predicted if predicted else 0.0


def entity_recall(truth: Sequence[list[str]], found: Sequence[list[str]]) -> float:
    """Share of true entities that are found."""
    right, true, _ = _entity_counts(truth, found)
    return right / true if true else 0.0


def entity_f1(truth: Sequence[list[str]], found: Sequence[list[str]]) -> float:
    """Harmonic mean of entity precision and recall; equal to seqeval's strict IOB2 figure."""
    right, true, predicted = _entity_counts(truth, found)
    return 2 * right / (true + predicted) if true + predicted else 0.0


def word_accuracy(truth: Sequence[list[str]], found: Sequence[list[str]]) -> float | None:
    """Share of words whose tag is right."""
    pairs = [pair for gold, tags in zip(truth, found, strict=True) for pair in zip(gold, tags, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def word_macro_f1(truth: Sequence[list[str]], found: Sequence[list[str]]) -> float | None:
    """Mean F1 over the words' tags."""
    flat = [[tag for row in rows for tag in row] for rows in (truth, found)]
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
