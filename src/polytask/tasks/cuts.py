"""Every way to cut the outputs of labels in two, and the cuts that are best for a metric."""

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
    """Every way to cut the outputs of a label (or of several) in two.

    Attributes:
        at: the output from which a label is given: 0 where that cuts so, otherwise halfway between two outputs.
        given: how many are given, ascending.
        right: how many of those rightly.
        positive: how many are right to give.
    """

    at: Floats
    given: Floats
    right: Floats
    positive: int

    @classmethod
    def of(cls, outputs: NDArray[np.float32] | Floats, label: Bools) -> Cuts:
        """List the cuts of outputs (at least one; flattened), of which `label` says what is right to give."""
        values, truth = outputs.ravel().astype(np.float64), label.ravel()
        order = np.argsort(-values, kind="stable")
        values, truth = values[order], truth[order]
        ends = np.flatnonzero(np.append(np.diff(values) != 0, True))  # equal outputs are given together
        given = np.concatenate([[0], ends + 1])
        right = np.concatenate([[0], np.cumsum(truth)])[given]
        distinct = values[ends]
        below = np.append(distinct, distinct[-1] - 2.0)  # a cut lies above the first output that is not given ...
        above = np.append(distinct[0] + 2.0, distinct)  # ... and not above the last one that is
        inside = (np.append(distinct, -np.inf) < 0) & (np.append(np.inf, distinct) >= 0)
        at = np.where(inside, 0.0, (below + above) / 2)
        return cls(at, given.astype(np.float64), right.astype(np.float64), int(truth.sum()))

    def best(self, values: Floats) -> int:
        """Return the cut of the greatest value; of several, the one nearest to 0, where the probability is 0.5."""
        best = np.flatnonzero(values >= values.max() - 1e-12)
        return int(best[np.argmin(np.abs(self.at[best]))])


def f1_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return each label's cut that is best for its own F1, and so for their mean (macro F1)."""
    del fixed
    return [cut.best(2 * cut.right / np.maximum(cut.given + cut.positive, 1.0)) for cut in cuts]


def right_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return each label's cut with the most right decisions."""
    del fixed
    return [cut.best(2 * cut.right - cut.given) for cut in cuts]


def micro_f1_cuts(cuts: Sequence[Cuts], fixed: tuple[float, float, float]) -> list[int]:
    """Return the cuts that are best together for the F1 over all decisions: exact, as the maximum of a ratio of sums.

    Source: Dinkelbach 1967, "On Nonlinear Fractional Programming": with the ratio held fixed the labels are apart.

    Args:
        fixed: how many decisions of other labels are right, given and positive.
    """
    right, given, positive = fixed
    positive += sum(cut.positive for cut in cuts)
    ratio = 0.0
    while True:
        chosen = [cut.best(2 * cut.right - ratio * cut.given) for cut in cuts]
        picked = list(zip(cuts, chosen, strict=True))
        above = 2 * (right + sum(float(cut.right[at]) for cut, at in picked))
        below = positive + given + sum(float(cut.given[at]) for cut, at in picked)
        if above / below <= ratio + 1e-12:
            return chosen
        ratio = above / below


# Takes the cuts of labels, and how many decisions of other labels are right, given and positive.
Objective: TypeAlias = Callable[[Sequence[Cuts], tuple[float, float, float]], list[int]]
