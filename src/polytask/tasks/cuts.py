"""All distinct thresholds (cuts) of the outputs of labels, and the best cuts for a metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Cuts:
    """All distinct thresholds of the outputs of a label (or of several together).

    Attributes:
        at: output from which a label is predicted: 0 if that is possible, otherwise halfway between two outputs.
        predicted: number of predictions at each cut, ascending.
        right: number of correct predictions at each cut.
        positive: number of rows that have the label.
    """

    at: Floats
    predicted: Floats
    right: Floats
    positive: int

    @classmethod
    def of(cls, outputs: NDArray[np.float32] | Floats, label: Bools) -> Cuts:
        """List the cuts of outputs (at least one; flattened); `label` is whether each row has the label."""
        values, truth = outputs.ravel().astype(np.float64), label.ravel()
        order = np.argsort(-values, kind="stable")
        values, truth = values[order], truth[order]
        ends = np.flatnonzero(np.append(np.diff(values) != 0, True))  # equal outputs are predicted together
        predicted = np.concatenate([[0], ends + 1])
        right = np.concatenate([[0], np.cumsum(truth)])[predicted]
        distinct = values[ends]
        below = np.append(distinct, distinct[-1] - 2.0)  # a cut lies above the first output that is not predicted ...
        above = np.append(distinct[0] + 2.0, distinct)  # ... and not above the last one that is
        inside = (np.append(distinct, -np.inf) < 0) & (np.append(np.inf, distinct) >= 0)
        at = np.where(inside, 0.0, (below + above) / 2)
        return cls(at, predicted.astype(np.float64), right.astype(np.float64), int(truth.sum()))

    def best(self, values: Floats) -> int:
        """Return the index of the cut with the greatest value; ties go to the one nearest to 0 (probability 0.5)."""
        best = np.flatnonzero(values >= values.max() - 1e-12)
        return int(best[np.argmin(np.abs(self.at[best]))])


def f1_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return the cut with each label's best F1, and so with the best mean (macro F1)."""
    del fixed
    return [cut.best(2 * cut.right / np.maximum(cut.predicted + cut.positive, 1.0)) for cut in cuts]


def right_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return each label's cut with the most correct decisions."""
    del fixed
    return [cut.best(2 * cut.right - cut.predicted) for cut in cuts]


def micro_f1_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return the cuts that together have the best micro F1: exactly, by maximizing a ratio of sums.

    Source: Dinkelbach 1967, "On Nonlinear Fractional Programming": for a fixed ratio the labels are independent.

    Args:
        fixed: numbers of correct predictions, predictions and positives of other labels, whose cuts are fixed.
    """
    right, predicted, positive = fixed
    positive += sum(cut.positive for cut in cuts)
    ratio = 0.0
    while True:
        chosen = [cut.best(2 * cut.right - ratio * cut.predicted) for cut in cuts]
        picked = list(zip(cuts, chosen, strict=True))
        above = 2 * (right + sum(float(cut.right[at]) for cut, at in picked))
        below = positive + predicted + sum(float(cut.predicted[at]) for cut, at in picked)
        if above / below <= ratio + 1e-12:
            return chosen
        ratio = above / below


# Takes the cuts of labels, and the numbers of correct predictions, predictions and positives of other labels.
Objective: TypeAlias = Callable[[Sequence[Cuts], tuple[float, float, float]], list[int]]
