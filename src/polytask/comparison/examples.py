"""Test rows that sharing mended, and rows that it broke."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from polytask.comparison.predictions import ArmPredictions
from polytask.terms import Label

MOST = 5


def examples(single: ArmPredictions, arm: ArmPredictions) -> dict[str, list[dict[str, Any]]]:
    """Return up to five rows that the single model gets wrong and the arm right in most seeds, and the reverse.

    A number is right where the arm's is closer than the single model's in most seeds; the greatest changes come first.
    """
    gains = _closer(single, arm) if isinstance(single.labels[0], float) else _righter(single, arm)
    order = sorted(range(len(gains)), key=lambda row: -abs(gains[row]))
    fixed = [row for row in order if gains[row] > 0][:MOST]
    broken = [row for row in order if gains[row] < 0][:MOST]
    return {
        "fixed": [_example(single, arm, row) for row in fixed],
        "broken": [_example(single, arm, row) for row in broken],
    }


def _righter(single: ArmPredictions, arm: ArmPredictions) -> list[float]:
    """Return 1 for rows that most of the arm's models alone get right, -1 for the reverse, and else 0."""
    right = [
        [
            2 * sum(found[row] == label for found in one.predictions) > len(one.predictions)
            for row, label in enumerate(one.labels)
        ]
        for one in (single, arm)
    ]
    wrong = [
        [
            2 * sum(found[row] != label for found in one.predictions) > len(one.predictions)
            for row, label in enumerate(one.labels)
        ]
        for one in (single, arm)
    ]
    return [
        float(wrong[0][row] and right[1][row]) - float(right[0][row] and wrong[1][row])
        for row in range(len(single.rows))
    ]


def _closer(single: ArmPredictions, arm: ArmPredictions) -> list[float]:
    labels = np.asarray(single.labels, dtype=float)
    before, after = (np.abs(np.asarray(one.predictions, dtype=float) - labels) for one in (single, arm))
    change = before - after
    agreed = np.abs(np.sign(change).sum(0)) * 2 > len(change)
    return [float(value) for value in np.where(agreed, change.mean(0), 0.0)]


def _example(single: ArmPredictions, arm: ArmPredictions, row: int) -> dict[str, Any]:
    return {
        "row": single.rows[row],
        "place": single.places[row] if single.places else "",
        "text": single.texts[row],
        "label": single.labels[row],
        "single": _usual([found[row] for found in single.predictions]),
        "prediction": _usual([found[row] for found in arm.predictions]),
    }


def _usual(answers: Sequence[Label]) -> Label:
    """Return the answer that most seeds give, or the mean of numbers."""
    numbers = [answer for answer in answers if isinstance(answer, float)]
    if len(numbers) == len(answers):
        return float(np.mean(numbers))
    return json.loads(Counter(json.dumps(answer) for answer in answers).most_common(1)[0][0])
