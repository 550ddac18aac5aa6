"""Metrics of two classes as functions of counts, so that those of all thresholds are computed at once.

Counts are of true positives, false positives, false negatives and true negatives; the truth holds both classes.
"""

from __future__ import annotations

import numpy as np

from polytask.tasks.metric import Floats


def accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the share of right rows."""
    return (tp + tn) / (tp + fp + fn + tn)


def f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the F1 of the positive class."""
    del tn
    return 2 * tp / (2 * tp + fp + fn)


def macro_f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the mean of both classes' F1."""
    return (f1(tp, fp, fn, tn) + f1(tn, fn, fp, tp)) / 2


def mcc(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the Matthews correlation; 0 where one class only is predicted."""
    spread = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    return np.divide(tp * tn - fp * fn, spread, out=np.zeros_like(spread), where=spread > 0)
