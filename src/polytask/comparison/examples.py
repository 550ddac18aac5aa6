"""Test rows that sharing fixed, and rows that it broke."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from polytask.comparison.predictions import ArmPredictions
from polytask.terms import Label

MAX_EXAMPLES = 5


def examples(single: ArmPredictions, arm: ArmPredictions) -> dict[str, list[dict[str, Any]]]:
    """Return up to five rows that the single model gets wrong and the arm right in most seeds, and vice versa.

    A number counts as right if the arm is closer than the single model in most seeds; the largest changes come first.
    """
    gains = _closer(single, arm) if isinstance(single.labels[0], float) else _righter(single, arm)
    order = sorted(range(len(gains)), key=lambda row: -abs(gains[row]))
    fixed = [row for row in order if gains[row] > 0][:MAX_EXAMPLES]
    broken = [row for row in order if gains[row] < 0][:MAX_EXAMPLES]
    return {
        "fixed": [_example(single, arm, row) for row in fixed],
        "broken": [_example(single, arm, row) for row in broken],
    }


def _righter(single: ArmPredictions, arm: ArmPredictions) -> list[float]:
    """Return 1 for rows that only most of the arm's models get right, -1 for the reverse, and 0 otherwise."""
    right = [
        [
            2 * sum(predicted[row] == label for predicted in arm_predictions.predictions)
            > len(arm_predictions.predictions)
            for row, label in enumerate(arm_predictions.labels)
        ]
        for arm_predictions in (single, arm)
    ]
    wrong = [
        [
            2 * sum(predicted[row] != label for predicted in arm_predictions.predictions)
            > len(arm_predictions.predictions)
            for row, label in enumerate(arm_predictions.labels)
        ]
        for arm_predictions in (single, arm)
    ]
    return [
        float(wrong[0][row] and right[1][row]) - float(right[0][row] and wrong[1][row])
        for row in range(len(single.rows))
    ]


def _closer(single: ArmPredictions, arm: ArmPredictions) -> list[float]:
    labels = np.asarray(single.labels, dtype=float)
    before, after = (
        np.abs(np.asarray(arm_predictions.predictions, dtype=float) - labels) for arm_predictions in (single, arm)
    )
    change = before - after
    agreed = np.abs(np.sign(change).sum(0)) * 2 > len(change)
    return [float(value) for value in np.where(agreed, change.mean(0), 0.0)]


def _example(single: ArmPredictions, arm: ArmPredictions, row: int) -> dict[str, Any]:
    return {
        "row": single.rows[row],
        "place": single.places[row] if single.places else "",
        "text": single.texts[row],
        "label": single.labels[row],
        "single": _usual([predicted[row] for predicted in single.predictions]),
        "prediction": _usual([predicted[row] for predicted in arm.predictions]),
    }


def _usual(answers: Sequence[Label]) -> Label:
    """Return the most frequent prediction over seeds, or the mean of numbers."""
    numbers = [answer for answer in answers if isinstance(answer, float)]
    if len(numbers) == len(answers):
        return float(np.mean(numbers))
    return json.loads(Counter(json.dumps(answer) for answer in answers).most_common(1)[0][0])
