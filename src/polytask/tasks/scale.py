"""Arithmetic of ordered levels: conversion between conditional logits and probabilities, with logarithms in float64.

K levels have K - 1 steps: logit k is that of "above level k".
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence

import numpy as np

from polytask.tasks.arrays import Floats, Outputs

# At this logit the probability is 0 or 1 at any precision that is shown, and its logarithm still finite.
_FARTHEST = 300.0
_SMALLEST = 1e-300


def _log_sigmoid(logits: Floats) -> Floats:
    return -np.logaddexp(0.0, -logits)


def survival_logits(outputs: Outputs) -> Floats:
    """Convert conditional logits ("above level k, given that k is reached") to those of "above level k".

    Args:
        outputs: conditional logits, rows x steps; the result never rises with k.
    """
    logs = _log_sigmoid(np.clip(outputs.astype(np.float64), -_FARTHEST, _FARTHEST)).cumsum(-1)
    return logs - np.log(-np.expm1(np.minimum(logs, -_SMALLEST)))


def conditional(logits: Floats) -> Floats:
    """Invert `survival_logits`; the last axis is that of the steps."""
    logs = _log_sigmoid(logits)
    step_logs = np.diff(logs, axis=-1, prepend=0.0)
    return np.clip(step_logs - np.log(-np.expm1(np.minimum(step_logs, -_SMALLEST))), -_FARTHEST, _FARTHEST)


def level_logs(logits: Floats) -> Floats:
    """Return each level's log-probability, rows x levels, from logits as `survival_logits` returns them."""
    edge = np.full((len(logits), 1), np.inf)
    reached, passed = np.concatenate([edge, logits], 1), np.concatenate([logits, -edge], 1)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which stays precise if both are near 1.
    between = np.maximum(-np.expm1(np.minimum(passed - reached, 0.0)), _SMALLEST)
    return _log_sigmoid(reached) + _log_sigmoid(-passed) + np.log(between)


def place_of(level: str, places: Mapping[str, int], numbers: Sequence[float]) -> float:
    """Return a level's position; other numbers lie halfway between their neighbours, or half a step outside the scale.

    >>> place_of("3", {"2": 0, "4": 1}, (2.0, 4.0)), place_of("9", {"2": 0, "4": 1}, (2.0, 4.0))
    (0.5, 1.5)
    """
    place = places.get(level)
    if place is not None:
        return place
    return bisect(numbers, float(level)) - 0.5
