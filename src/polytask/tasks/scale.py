"""The arithmetic of ordered levels: from conditional logits to probabilities and back, by logarithms in float64.

Of K levels there are K - 1 steps: logit k is of "above level k".
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence

import numpy as np

from polytask.tasks.arrays import Floats, Outputs

# Beyond this a logit's probability is 0 or 1 in any number that is shown, and its logarithm still a number.
_FARTHEST = 300.0
_SMALLEST = 1e-300


def _log_sigmoid(logits: Floats) -> Floats:
    return -np.logaddexp(0.0, -logits)


def survival_logits(outputs: Outputs) -> Floats:
    """Return the logits of "above level k", which never rise with k, of logits that take k as reached.

    Args:
        outputs: rows x steps.
    """
    logs = _log_sigmoid(np.clip(outputs.astype(np.float64), -_FARTHEST, _FARTHEST)).cumsum(-1)
    return logs - np.log(-np.expm1(np.minimum(logs, -_SMALLEST)))


def conditional(logits: Floats) -> Floats:
    """Return what `survival_logits` takes to return these; the last axis is that of the steps."""
    logs = _log_sigmoid(logits)
    own = np.diff(logs, axis=-1, prepend=0.0)
    return np.clip(own - np.log(-np.expm1(np.minimum(own, -_SMALLEST))), -_FARTHEST, _FARTHEST)


def level_logs(logits: Floats) -> Floats:
    """Return the logarithm of each level's probability: rows x levels, of logits as from `survival_logits`."""
    edge = np.full((len(logits), 1), np.inf)
    reached, passed = np.concatenate([edge, logits], 1), np.concatenate([logits, -edge], 1)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which loses nothing where both are near 1.
    between = np.maximum(-np.expm1(np.minimum(passed - reached, 0.0)), _SMALLEST)
    return _log_sigmoid(reached) + _log_sigmoid(-passed) + np.log(between)


def place_of(level: str, places: Mapping[str, int], numbers: Sequence[float]) -> float:
    """Return the place of a level; of a number that is none, halfway between its neighbours or half a step outside.

    >>> place_of("3", {"2": 0, "4": 1}, (2.0, 4.0)), place_of("9", {"2": 0, "4": 1}, (2.0, 4.0))
    (0.5, 1.5)
    """
    known = places.get(level)
    if known is not None:
        return known
    return bisect(numbers, float(level)) - 0.5
