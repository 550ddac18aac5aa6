"""Tuning of thresholds on dev rows: an exact search over all cuts of the sorted outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polytask.tasks import two_class
from polytask.tasks.cuts import Bools, Cuts, Floats, micro_f1_cuts
from polytask.tasks.metric import METRICS

# With fewer positive dev rows a label has no threshold of its own: it gets that of all labels together, or 0.5.
LEAST_POSITIVE = 10


def tune_thresholds(
    outputs: NDArray[np.float32], targets: Bools, labels: Sequence[str], metric: str
) -> tuple[tuple[float, ...], list[str]]:
    """Return each label's threshold (as an output) with the best main metric on dev, and notes for the user.

    A label with fewer than LEAST_POSITIVE positive rows gets the threshold that is best for all labels together; if all
    labels together have fewer, all thresholds stay at 0, a probability of 0.5.

    Args:
        outputs, targets: rows x labels.
        metric: the main metric; if thresholds cannot be tuned for it, they are tuned for micro F1.
    """
    objective = METRICS["row"][metric].objective
    positive = targets.sum(0)
    if positive.sum() < LEAST_POSITIVE:
        counts = f"{int(positive.sum())} labels in {len(targets)} dev rows"
        return (0.0,) * len(labels), [f"thresholds stay at 0.5: found {counts}, and need {LEAST_POSITIVE}"]
    together = Cuts.of(outputs, targets)
    common = float(together.at[(objective or micro_f1_cuts)([together], (0, 0, 0))[0]])
    frequent = np.flatnonzero(positive >= LEAST_POSITIVE)
    rare = np.flatnonzero(positive < LEAST_POSITIVE)
    on = outputs[:, rare] >= common
    fixed = (float((on & targets[:, rare]).sum()), float(on.sum()), float(positive[rare].sum()))
    cuts = [Cuts.of(outputs[:, label], targets[:, label]) for label in frequent]
    chosen = [common] * len(labels)
    for label, cut, at in zip(frequent.tolist(), cuts, (objective or micro_f1_cuts)(cuts, fixed), strict=True):
        chosen[label] = float(cut.at[at])
    notes = ["thresholds were tuned on dev, so the dev scores are optimistic; those on test are not"]
    if objective is None:
        notes.append(f"thresholds were tuned for micro_f1, since they cannot be tuned for {metric}")
    if len(rare):
        names = ", ".join(str(labels[label]) for label in rare[:5].tolist()) + (", ..." if len(rare) > 5 else "")
        notes.append(f"{len(rare)} labels have fewer than {LEAST_POSITIVE} dev rows and share a threshold: {names}")
    return tuple(chosen), notes


def tune_threshold(log_odds: Floats, positive: Bools, metric: str) -> tuple[float, list[str]]:
    """Return the log odds from which the positive class is predicted, with the best metric on dev, and notes for users.

    With fewer than LEAST_POSITIVE rows of a class it stays at 0, a probability of 0.5.

    Args:
        log_odds: log odds of the positive class in each row.
        positive: whether each row has the positive label.
        metric: the main metric; if a threshold cannot be tuned for it, f1 takes its place.
    """
    count = int(positive.sum())
    fewest = min(count, len(positive) - count)
    if fewest < LEAST_POSITIVE:
        kind = "with" if fewest == count else "without"
        counts = f"{fewest} dev rows {kind} the positive label"
        return 0.0, [f"the threshold stays at 0.5: found {counts}, and need {LEAST_POSITIVE}"]
    row = METRICS["row"][metric]
    cuts = Cuts.of(log_odds, positive)
    false, missed = cuts.predicted - cuts.right, cuts.positive - cuts.right
    values = (row.of_counts or two_class.f1)(cuts.right, false, missed, len(positive) - cuts.predicted - missed)
    best = cuts.best(-values if row.of_counts is not None and row.smaller_is_better else values)
    notes = ["the threshold was tuned on dev, so the dev scores are optimistic; those on test are not"]
    if row.of_counts is None:
        notes.append(f"the threshold was tuned for f1, since it cannot be tuned for {metric}")
    return float(cuts.at[best]), notes
