"""What is kept of answers: predictions in the order of the rows, and counts of which label was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytask.data.arrow import ArrowRows
from polytask.data.encode import Source
from polytask.evaluation.record import MOST_LABELS, confusion, prediction_lines
from polytask.evaluation.scoring import TaskPredictions
from polytask.tasks import TASKS, LabelStats, Task
from polytask.tasks.bio import spans

LABELS = ["no", "other", "yes"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


class Rows:
    """A source as far as answers read it."""

    def __init__(self, carries: Sequence[int], raw: ArrowRows | None = None) -> None:
        self.carries = {"task": np.array(carries, dtype=np.int32)}
        self.raw = raw

    def numbered(self, rows: Sequence[int]) -> list[int]:
        return list(rows)


def task(kind: str, labels: Sequence[str] = (), **fitted: float) -> Task:
    options = TASKS[kind].Options.model_validate({"type": kind})
    return TASKS[kind].fit("task", options, LabelStats(labels=Counter(labels), present=len(labels) or 2, **fitted))


def answers(labels: Sequence[Any], found: Sequence[Any], source: Rows | None = None) -> TaskPredictions:
    rows = source or Rows(range(len(labels)))
    return TaskPredictions("task", cast(Source, rows), list(labels), list(found), np.empty((0, 1), np.float32))


def test_predictions_stand_in_the_order_of_the_rows_with_the_beginning_of_their_texts() -> None:
    places = [f"/data/rows.csv:{line}" for line in (2, 3, 5)]
    raw = ArrowRows(pa.table({"place": places, "text": ["a", "b" * 400, "c"], "pair": [None, None, "d"]}))
    kind = task("classification", LABELS)
    found = list(prediction_lines(kind, answers(["no", "yes"], ["yes", "yes"], Rows([1, 2], raw))))
    assert found == [
        {"row": 1, "place": places[1], "label": "no", "prediction": "yes", "text": "b" * 300},
        {"row": 2, "place": places[2], "label": "yes", "prediction": "yes", "text": "c | d"},
    ]


@given(st.lists(st.tuples(st.sampled_from([*LABELS, "unseen"]), st.sampled_from(LABELS)), min_size=1))
def test_a_confusion_counts_every_row_and_its_diagonal_those_that_are_right(pairs: list[tuple[str, str]]) -> None:
    matrix = confusion(task("classification", LABELS), answers(*zip(*pairs, strict=True)))
    assert matrix is not None
    counts = np.array(matrix["counts"])
    assert counts.sum() == len(pairs)
    assert np.trace(counts) == sum(true_label == found for true_label, found in pairs)
    for index, label in enumerate(matrix["labels"]):
        assert counts[index].sum() == sum(true_label == label for true_label, _ in pairs)


@given(st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1), min_size=1))
def test_a_confusion_of_entities_counts_spans_and_what_is_missed_or_invented(rows: list[Any]) -> None:
    labels, found = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    matrix = confusion(task("tagging", TAGS), answers(labels, found))
    assert matrix is not None
    assert matrix["labels"][-1] == "O"
    counts = np.array(matrix["counts"])
    assert counts[-1, -1] == 0
    true, guessed = ([set(spans(tags)) for tags in side] for side in (labels, found))
    assert counts[:-1].sum() == sum(map(len, true))
    assert counts[:, :-1].sum() == sum(map(len, guessed))
    assert np.trace(counts) == sum(len(one & other) for one, other in zip(true, guessed, strict=True))


def test_labels_beyond_the_commonest_are_counted_together() -> None:
    labels = [f"label{number:02}" for number in range(30)]
    true_labels = [label for number, label in enumerate(labels) for _ in range(number + 1)]
    matrix = confusion(task("classification", labels), answers(true_labels, true_labels))
    assert matrix is not None
    assert matrix["labels"] == [*labels[-MOST_LABELS:], "other"]
    assert matrix["counts"][-1][-1] == sum(range(1, 11))


def test_plain_tags_are_compared_word_by_word() -> None:
    matrix = confusion(task("tagging", ["N", "V"]), answers([["N", "V"], ["N"]], [["N", "N"], ["N"]]))
    assert matrix == {"labels": ["N", "V"], "counts": [[2, 0], [1, 0]]}


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_every_task_type_says_whether_its_labels_can_be_confused(kind: str) -> None:
    names = ["1", "2"] if kind == "ordinal" else TAGS
    made = task(kind, low=0.0, high=1.0, spread=1.0, numbers=2) if kind == "regression" else task(kind, names)
    labels: dict[str, list[Any]] = {
        "string": [names[0]], "double": [0.5], "list<string>": [["O", "B-PER"]], "list<double>": [[0.0, 0.0, 1.0, 7.0]],
    }  # fmt: skip
    if kind == "spans":
        labels["list<string>"] = [["1\tPER", ""]]
    found = confusion(made, answers(labels[made.label_type], labels[made.label_type]))
    assert (found is None) == (kind in ("embedding", "mlm", "regression", "multilabel"))
