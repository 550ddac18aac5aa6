"""CKA: how similarly the single-task models of two tasks represent the same texts.

Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", section 3 (linear CKA):
||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) for states X, Y with centred columns.
"""

from __future__ import annotations

import numpy as np

from polytask.relatedness.evidence import Evidence, Floats, MeasureResult


def cka(evidence: Evidence) -> MeasureResult | None:
    """Return linear CKA for each layer, and its mean over the layers."""
    if evidence.states is None:
        return None
    states = [evidence.states[task] for task in evidence.tasks]
    layers = {
        str(number + 1): np.array([[linear_cka(one[number], other[number]) for other in states] for one in states])
        for number in range(len(states[0]))
    }
    return MeasureResult(np.mean(list(layers.values()), axis=0), None, layers)


def linear_cka(first: Floats, second: Floats) -> float:
    """Return linear CKA, from 0 to 1; 0 where all states of one model are the same.

    Args:
        first, second: texts x features, of the same texts; the numbers of features may differ.
    """
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    lengths = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.square(np.linalg.norm(y.T @ x)) / lengths) if lengths else 0.0
