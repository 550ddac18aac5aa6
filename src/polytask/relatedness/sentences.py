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
        yield f"These {verb} the shared weights the same way: {'; '.join(map(_listed, together))}."
    if alone and together:
        yield f"{_listed(alone)}: the probe showed no task that helps, which is no proof of harm."
    if not together:
        yield "The probe showed no two tasks that help each other; that is no proof of harm: compare to find out."
    if together and not alone and len(groups) == 1:
        yield "All tasks belong together as far as the probe can tell: share everything, and compare."


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
        yield f"These pull against each other: {'; '.join(harmful)}."
    if len(unsure) > LISTED:
        pairs = len(tasks) * (len(tasks) - 1) // 2
        which = f"all {pairs}" if len(unsure) == pairs else f"the other {len(unsure)} of {pairs}"
        yield (
            f"Of {which} pairs of tasks the probe's noise does not allow to say whether they help or harm: they lie "
            f"within {SHOWN:g} standard errors of 0."
        )
    elif unsure:
        yield (
            f"Within {SHOWN:g} standard errors of 0, so that the probe's noise does not allow to say whether they help "
            f"or harm: {'; '.join(unsure)}."
        )
    if not np.isfinite(measured.error).all():
        yield "The probe measured at one point only, so nothing is known of its noise."
    else:
        yield f"Help counts for the groups from {CONFIDENCE:g} standard error above 0."


def _of_prediction(correlation: Mapping[str, RankCorrelation]) -> Iterator[str]:
    for name, found in correlation.items():
        shown = name.replace("_", " ")
        if found.spearman is None:
            yield (
                f"Whether {shown} foretold the comparison cannot be said: {found.pairs} ordered pairs of tasks, and "
                "three different pairs with differing numbers are the least."
            )
        elif found.spearman < WEAK:
            yield (
                f"The {shown} predicted nothing of the comparison's transfer: rank correlation {found.spearman:+.2f} "
                f"over {found.pairs} ordered pairs."
            )
        else:
            yield (
                f"The {shown} ordered the pairs as the comparison did with a rank correlation of "
                f"{found.spearman:+.2f} over {found.pairs} ordered pairs; few pairs make that a hint, not a proof."
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
