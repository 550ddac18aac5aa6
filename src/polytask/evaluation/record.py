"""Records of a model's answers in addition to scores: predictions, and confusion matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from polytask.evaluation.scoring import TaskPredictions
from polytask.tasks import Task
from polytask.tasks.arrays import rounded

# Maximum number of characters of a text in a prediction's record.
TEXT_LENGTH = 300
# Number of nearest texts in the record of a vector.
NEIGHBOURS = 3
# Maximum number of labels in a confusion matrix, the most frequent ones; the rest are merged into one.
MOST_LABELS = 20
OTHER = "other"


def prediction_lines(task: Task, answers: TaskPredictions) -> Iterator[dict[str, Any]]:
    """Yield for each row its number, place (file and line), label, prediction, and the start of its text.

    Word labels come with the position of each word in the text, in code points; vectors with the nearest texts and
    their cosines; a task with a positive label, with its probability.
    """
    rows = answers.rows
    numbers = answers.source.numbered(rows)
    places = ["starts", "ends"] if answers.words is not None else []
    raw = answers.source.raw.columns(["place", "text", "pair", *places], rows)
    beside = [list[str]() for _ in rows] if answers.places is None else _beside(answers)
    texts = zip(raw["place"], raw["text"], raw["pair"], beside, strict=True)
    more: list[dict[str, Any]] = _neighbours(task, answers) or [{} for _ in rows]
    if places:
        more = [{"words": list(zip(*span, strict=True))} for span in zip(raw["starts"], raw["ends"], strict=True)]
    probabilities = answers.probabilities(task)
    if probabilities is not None:
        # With all decimals: equal ones are ties of metrics that order rows.
        more = [{"probability": value} for value in probabilities]
    for row, label, found, (place, text, pair, others), also in zip(
        numbers, answers.labels, answers.predictions, texts, more, strict=True
    ):
        shown = " | ".join([text, *([] if pair is None else [pair]), *others])
        label, found = (task.readable_label(one, others) for one in (label, found))
        told = {"label": label, "prediction": found, "text": shown[:TEXT_LENGTH]}
        yield {"row": row, "place": place, **told, **also}


def _neighbours(task: Task, answers: TaskPredictions) -> list[dict[str, Any]] | None:
    """Return the nearest texts of each vector, with their cosines; None if there are no vectors."""
    found = task.neighbours(answers.row_labels, answers.outputs, NEIGHBOURS) if answers.places is not None else None
    if found is None:
        return None
    carried = answers.source.carries[answers.task]
    near = sorted({place for one in found for place, _ in one})
    texts = dict(zip(near, answers.source.raw.columns(["text"], carried[near].tolist())["text"], strict=True))
    return [
        {"nearest": [{"text": texts[place][:TEXT_LENGTH], "cosine": rounded(cosine)} for place, cosine in one]}
        for one in found
    ]


def _beside(answers: TaskPredictions) -> list[list[str]]:
    """Return for each row the texts with which its own text is compared."""
    source = answers.source
    beside = [[row for row, _ in source.companions(number, (answers.task,))] for number in answers.rows]
    texts: list[str] = source.raw.columns(["text"], [row for rows in beside for row in rows])["text"]
    ends = np.cumsum([len(rows) for rows in beside]).tolist()
    return [texts[end - len(rows) : end] for end, rows in zip(ends, beside, strict=True)]


def confusion(task: Task, answers: TaskPredictions) -> dict[str, Any] | None:
    """Return {"labels", "counts"}: rows are true labels, columns are predictions; None without classes.

    For entities, `O` is the last label: its row counts false positives, its column missed entities.
    """
    pairs = task.confusion_pairs(answers.labels, answers.predictions)
    if pairs is None:
        return None
    none = task.absent
    seen = Counter(label for pair in pairs for label in pair if label != none)
    commonest = sorted(seen, key=lambda label: (-seen[label], label))[:MOST_LABELS]
    kept = sorted(commonest, key=lambda label: task.measured([label])[0])
    others = [OTHER] if len(seen) > len(kept) else []
    labels = [*kept, *others, *([] if none is None else [none])]
    place = {label: index for index, label in enumerate(kept)}
    if none is not None:
        place[none] = len(labels) - 1
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for (true_label, predicted), count in Counter(pairs).items():
        counts[place.get(true_label, len(kept)), place.get(predicted, len(kept))] += count
    return {"labels": labels, "counts": counts.tolist()}
