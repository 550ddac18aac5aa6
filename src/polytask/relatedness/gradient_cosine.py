"""Gradient cosine: whether two tasks' gradients of the shared weights agree.

The cosine of the tasks' mean gradients, as in Yu et al. 2020 (PCGrad, section 2). All points of the probe are averaged
before the cosine is taken: a gradient over a few rows is mostly noise, and products of gradients at different points
share none. Noise in a task's own norm remains and makes every cosine smaller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polytask.relatedness.evidence import Evidence, Floats, MeasureResult, jackknife


def gradient_cosine(evidence: Evidence) -> MeasureResult | None:
    """Return the cosines over all layers, and for each of them."""
    products = evidence.products
    if products is None:
        return None
    whole = products.sum(axis=0)  # T x K x T x K

    def over(points: NDArray[np.intp]) -> Floats:
        return cosine(whole[:, points][:, :, :, points].mean(axis=(1, 3)))

    layers = {str(number): cosine(found.mean(axis=(1, 3))) for number, found in enumerate(products, start=1)}
    count = whole.shape[1]
    return MeasureResult(over(np.arange(count)), jackknife(over, count), layers)


def cosine(gram: Floats) -> Floats:
    """Turn inner products into cosines; 0 for a task without a gradient."""
    length = np.sqrt(np.diagonal(gram))
    lengths = np.outer(length, length)
    return np.divide(gram, lengths, out=np.zeros_like(gram), where=lengths > 0)
