"""Thousands of labels cost what rows hold of them: comparisons are counted, and no table of rows x labels is made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from polytask.evaluation.bootstrap import resampled, score_intervals
from polytask.tasks import METRICS, TASKS
from polytask.tasks.resampling import _label_counts

LABELS = 4000
ROWS = 60
CALLS = Counter[str]()


class Label(str):
    """A label that counts how often it is compared."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        CALLS["compared"] += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


NAMES = tuple(f"label {n:04d}" for n in range(LABELS))


def task(kind: str) -> Any:
    fitted: dict[str, Any] = {"classes": list(NAMES), "counts": [1] * LABELS}
    if kind == "multilabel":
        fitted["rows"] = LABELS
    if kind == "tagging":
        fitted = {"tagset": list(NAMES), "counts": [1] * LABELS, "bio": False}
    return TASKS[kind].from_json(kind, {"type": kind, "options": {"type": kind}, "fitted": fitted})


def rows(seed: int) -> list[list[Label]]:
    draw = np.random.default_rng(seed)
    return [[Label(NAMES[n]) for n in sorted(set(draw.integers(LABELS, size=3).tolist()))] for _ in range(ROWS)]


def test_sets_of_labels_are_compared_as_often_as_they_are_held() -> None:
    labels, found = rows(1), rows(2)
    CALLS.clear()
    for metric in ("micro_f1", "macro_f1"):
        METRICS["row"][metric](labels, found)
        resampled("row", metric, labels, found)
    assert CALLS["compared"] < 100 * ROWS  # each label against each row would be 4,000 x 60, again and again
    assert all(
        one.nnz <= sum(map(len, labels)) + sum(map(len, found)) for one in _label_counts(labels, found, aligned=False)
    )


def test_labels_are_encoded_by_look_up() -> None:
    labels = rows(3)
    several, one, words = task("multilabel"), task("classification"), task("tagging")
    CALLS.clear()
    encoded = [several.encode(label) for label in labels]
    assert CALLS["compared"] < 10 * ROWS
    assert [int(sum(row)) for row in encoded] == [len(label) for label in labels]
    assert [one.encode(label[0]) for label in labels] == [NAMES.index(str(label[0])) for label in labels]
    assert words.encode(labels[0]) == [NAMES.index(str(tag)) for tag in labels[0]]
    assert one.encode("never seen") == -100
    assert words.encode(["never seen"]) == [-100]


def test_what_was_encoded_is_decoded() -> None:
    labels = [[str(label) for label in row] for row in rows(4)]
    several = task("multilabel")
    outputs = np.array([several.encode(row_labels) for row_labels in labels], np.float32) - 0.5
    assert several.decode(outputs) == labels
    assert several.certainty(outputs, labels)[1].all()
    assert several.decode(outputs[:0]) == []


@pytest.mark.parametrize("kind", ["multilabel", "classification"])
def test_intervals_of_thousands_of_labels_hold_the_score(kind: str) -> None:
    labels: Any = [[str(label) for label in row] for row in rows(5)]
    found: Any = [true_set if n % 3 else [NAMES[n]] for n, true_set in enumerate(labels)]
    if kind == "classification":
        labels, found = [true_set[0] for true_set in labels], [one[0] for one in found]
    chosen = task(kind)
    intervals = score_intervals(chosen, labels, found, resamples=50)
    for metric in chosen.metrics:
        interval, score = intervals[metric], METRICS["row"][metric](labels, found)
        assert interval is not None
        assert score is not None
        assert 0.0 < interval[0] < interval[1] < 1.0
        assert abs(score - sum(interval) / 2) < 0.25
