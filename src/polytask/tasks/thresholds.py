"""Thresholds of labels, each the best one on dev rows: exact over all cuts of the sorted outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.tasks import two_class
from polytask.tasks.cuts import Bools, Cuts, Floats, micro_f1_cuts
from polytask.tasks.metric import METRICS

# With fewer positive dev rows a label has no threshold of its own: it takes that of all labels together, or 0.5.
LEAST_POSITIVE = 10


def tune_thresholds(
    outputs: NDArray[np.float32], targets: Bools, labels: Sequence[str], metric: str
) -> tuple[tuple[float, ...], list[str]]:
    """Return for each label the output from which it is given, best on dev by the main metric, and what to know.

    A label with fewer than LEAST_POSITIVE positive rows takes the cut that is best for all labels' decisions together;
    where all of them are fewer, every cut stays at 0, which is a probability of 0.5.

    Args:
        outputs, targets: rows x labels.
        metric: the main one; where it has no objective of its own, micro F1's is taken.
    """
    objective = METRICS["row"][metric].objective
    positive = targets.sum(0)
    if positive.sum() < LEAST_POSITIVE:
        found = f"{int(positive.sum())} labels in {len(targets)} dev rows"
        return (0.0,) * len(labels), [f"thresholds stay at 0.5: found {found}, and need {LEAST_POSITIVE}"]
    together = Cuts.of(outputs, targets)
    common = float(together.at[(objective or micro_f1_cuts)([together], (0, 0, 0))[0]])
    own = np.flatnonzero(positive >= LEAST_POSITIVE)
    rare = np.flatnonzero(positive < LEAST_POSITIVE)
    on = outputs[:, rare] >= common
    fixed = (float((on & targets[:, rare]).sum()), float(on.sum()), float(positive[rare].sum()))
    cuts = [Cuts.of(outputs[:, label], targets[:, label]) for label in own]
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


def tune_threshold(log_odds: Floats, positive: Bools, metric: str) -> tuple[float, list[str]]:
    """Return the log odds from which the positive one of two classes is answered, best on dev, and what to know.

    With fewer than LEAST_POSITIVE rows of a class it stays at 0, which is a probability of 0.5.

    Args:
        log_odds: of the positive class in each row.
        positive: whether each row has it.
        metric: the main one; where it does not say which threshold is best for it, f1's is taken.
    """
    count = int(positive.sum())
    fewest = min(count, len(positive) - count)
    if fewest < LEAST_POSITIVE:
        kind = "with" if fewest == count else "without"
        found = f"{fewest} dev rows {kind} the positive label"
        return 0.0, [f"the threshold stays at 0.5: found {found}, and need {LEAST_POSITIVE}"]
    row = METRICS["row"][metric]
    cuts = Cuts.of(log_odds, positive)
    false, missed = cuts.given - cuts.right, cuts.positive - cuts.right
    values = (row.of_counts or two_class.f1)(cuts.right, false, missed, len(positive) - cuts.given - missed)
    best = cuts.best(-values if row.of_counts is not None and row.smaller_is_better else values)
    notes = ["the threshold was tuned on dev, so the dev scores are optimistic; those on test are not"]
    if row.of_counts is None:
        notes.append(f"the threshold is the best one for f1, since {metric} does not say which is best for it")
    return float(cuts.at[best]), notes
