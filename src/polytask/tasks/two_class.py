"""Metrics of two classes as functions of counts, to compute them for all thresholds at once.

Counts are those of true positives, false positives, false negatives and true negatives; both classes occur.
"""

from __future__ import annotations

import numpy as np

from polytask.tasks.metric import Floats


def accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the share of rows that are right."""
    return (tp + tn) / (tp + fp + fn + tn)


def f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the F1 of the positive class."""
    del tn
    return 2 * tp / (2 * tp + fp + fn)


def macro_f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the mean of both classes' F1."""
    return (f1(tp, fp, fn, tn) + f1(tn, fn, fp, tp)) / 2


def mcc(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Return the Matthews correlation; 0 if only one class is predicted."""
    spread = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    return np.divide(tp * tn - fp * fn, spread, out=np.zeros_like(spread), where=spread > 0)
