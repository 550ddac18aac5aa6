"""Interpretation of the matrices in plain words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from polytask.relatedness.evidence import MeasureResult
from polytask.relatedness.grouping import CONFIDENCE
from polytask.relatedness.transfer import RankCorrelation

# Rank correlations below this are hardly better than chance.
WEAK = 0.3
# Number of standard errors from which a difference from 0 counts as shown.
SHOWN = 2.0
# Maximum number of pairs of tasks that are listed by name.
LISTED = 6


def sentences_of(
    tasks: Sequence[str],
    grouping: MeasureResult,
    groups: Sequence[Sequence[str]],
    correlation: Mapping[str, RankCorrelation],
) -> list[str]:
    """Return sentences on the groups, the noise, and how well each measure predicts the comparison."""
    return [*_of_groups(groups, _unsure(tasks, grouping)), *_of_noise(tasks, grouping), *_of_prediction(correlation)]


def _unsure(tasks: Sequence[str], measured: MeasureResult) -> set[frozenset[str]]:
    """Return the pairs for which noise leaves open whether they help or harm."""
    assert measured.error is not None
    return {
        frozenset((tasks[left], tasks[right]))
        for left, right in combinations(range(len(tasks)), 2)
        if not abs(float(measured.matrix[left, right])) > SHOWN * float(measured.error[left, right])
    }


def _of_groups(groups: Sequence[Sequence[str]], unsure: Collection[frozenset[str]]) -> Iterator[str]:
    together = [group for group in groups if len(group) > 1]
    alone = [group[0] for group in groups if len(group) == 1]
    if together:
        seem = any(frozenset(pair) in unsure for group in together for pair in combinations(group, 2))
        verb = "seem to pull" if seem else "pull"
        yield f"These tasks {verb} the shared weights in the same direction: {'; '.join(map(_listed, together))}."
    if alone and together:
        yield f"{_listed(alone)}: the probe found no task that helps; sharing need not harm."
    if not together:
        yield "The probe found no tasks that help each other. Sharing need not harm them: compare to find out."
    if together and not alone and len(groups) == 1:
        yield "As far as the probe can tell, all tasks belong together: share everything, and compare."


def _of_noise(tasks: Sequence[str], measured: MeasureResult) -> Iterator[str]:
    assert measured.error is not None
    unsure: list[str] = []
    harmful: list[str] = []
    noisy = _unsure(tasks, measured)
    for left, right in combinations(range(len(tasks)), 2):
        value = float(measured.matrix[left, right])
        pair = f"{tasks[left]} and {tasks[right]}"
        if frozenset((tasks[left], tasks[right])) in noisy:
            unsure.append(pair)
        elif value < 0:
            harmful.append(f"{pair} ({value:+.2f})")
    if harmful:
        yield f"These tasks pull against each other: {'; '.join(harmful)}."
    if len(unsure) > LISTED:
        pairs = len(tasks) * (len(tasks) - 1) // 2
        which = f"all {pairs}" if len(unsure) == pairs else f"the other {len(unsure)} of {pairs}"
        yield (
            f"For {which} pairs of tasks it is open whether they help or harm each other: they are within "
            f"{SHOWN:g} standard errors of 0."
        )
    elif unsure:
        yield (
            f"Within {SHOWN:g} standard errors of 0, so it is open whether they help or harm each other: "
            f"{'; '.join(unsure)}."
        )
    if not np.isfinite(measured.error).all():
        yield "The probe measured at one point only, so its noise is unknown."
    else:
        yield f"Tasks are grouped if their affinity is more than {CONFIDENCE:g} standard error above 0."


def _of_prediction(correlation: Mapping[str, RankCorrelation]) -> Iterator[str]:
    for name, found in correlation.items():
        shown = name.replace("_", " ")
        if found.spearman is None:
            yield (
                f"Whether the {shown} predicted the comparison's transfer is unknown: that takes at least three pairs "
                f"of tasks with different values; found {found.pairs} ordered pairs."
            )
        elif found.spearman < WEAK:
            yield (
                f"The {shown} did not predict the comparison's transfer: rank correlation {found.spearman:+.2f} over "
                f"{found.pairs} ordered pairs."
            )
        else:
            yield (
                f"The {shown} predicted the comparison's transfer with a rank correlation of {found.spearman:+.2f} "
                f"over {found.pairs} ordered pairs; with so few pairs that is only an indication."
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
