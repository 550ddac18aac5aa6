"""Thresholds of several labels, each the best one on dev rows: exact over all cuts of the sorted outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.tasks.metric import METRICS
from polytask.tasks.task import Floats

Bools: TypeAlias = NDArray[np.bool_]
# A label with fewer positive dev rows takes the threshold that is best for all labels together.
LEAST_POSITIVE = 10


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
    def of(cls, outputs: NDArray[np.float32], gold: Bools) -> Cuts:
        """List the cuts of outputs (at least one; flattened), of which `gold` says what is right to give."""
        values, truth = outputs.ravel().astype(np.float64), gold.ravel()
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


Objective: TypeAlias = Callable[[Sequence[Cuts], tuple[float, float, float]], list[int]]


def tune_thresholds(
    outputs: NDArray[np.float32], gold: Bools, labels: Sequence[str], metric: str
) -> tuple[tuple[float, ...], list[str]]:
    """Return for each label the output from which it is given, best on dev by the main metric, and what to know.

    A label with fewer than LEAST_POSITIVE positive rows takes the cut that is best for all labels' decisions together;
    where all of them are fewer, every cut stays at 0, which is a probability of 0.5.

    Args:
        outputs, gold: rows x labels.
        metric: the main one; where it has no objective of its own, micro F1's is taken.
    """
    objective = METRICS["row"][metric].objective
    positive = gold.sum(0)
    if positive.sum() < LEAST_POSITIVE:
        found = f"{int(positive.sum())} labels in {len(gold)} dev rows"
        return (0.0,) * len(labels), [f"thresholds stay at 0.5: found {found}, and need {LEAST_POSITIVE}"]
    together = Cuts.of(outputs, gold)
    common = float(together.at[(objective or micro_f1_cuts)([together], (0, 0, 0))[0]])
    own = np.flatnonzero(positive >= LEAST_POSITIVE)
    rare = np.flatnonzero(positive < LEAST_POSITIVE)
    on = outputs[:, rare] >= common
    fixed = (float((on & gold[:, rare]).sum()), float(on.sum()), float(positive[rare].sum()))
    cuts = [Cuts.of(outputs[:, label], gold[:, label]) for label in own]
    chosen = [common] * len(labels)
    for label, cut, at in zip(own.tolist(), cuts, (objective or micro_f1_cuts)(cuts, fixed), strict=True):
        chosen[label] = float(cut.at[at])
    notes = ["thresholds were tuned on dev, so the dev scores are optimistic; those on test are not"]
    if objective is None:
        notes.append(f"thresholds are the best ones for micro_f1, since {metric} does not say which are best for it")
    if len(rare):
        names = ", ".join(str(labels[label]) for label in rare[:5].tolist()) + (", ..." if len(rare) > 5 else "")
        notes.append(f"{len(rare)} labels have fewer than {LEAST_POSITIVE} dev rows and share a threshold: {names}")
    return tuple(chosen), notes
