"""Calibration error of probabilities."""

from __future__ import annotations

import numpy as np

from polytask.tasks.arrays import Bools, Floats, rounded

BINS = 15


def expected_calibration_error(confidence: Floats, right: Bools) -> float | None:
    """Return the mean difference of probability and accuracy over bins (ECE); None without decisions.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3: 15 bins of equal width, each
    ((m - 1) / 15, m / 15], weighted by the decisions in them.

    >>> expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15
    """
    if not len(confidence):
        return None
    place = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    gaps = np.bincount(place, weights=right - confidence, minlength=BINS)
    return rounded(float(np.abs(gaps).sum() / len(confidence)))
