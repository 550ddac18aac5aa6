"""Transfer: the true effect of training together, from a comparison, and how well the measures predict it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytask.relatedness.evidence import Evidence, Floats, MeasureResult

# A rank correlation of two pairs of tasks is always 1 or -1.
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class RankCorrelation:
    """Rank correlation of a measure with the true transfer.

    Attributes:
        spearman: Spearman's correlation; None if undefined: too few pairs, or all values equal.
        pairs: number of ordered pairs of tasks.
    """

    spearman: float | None
    pairs: int


def transfer(evidence: Evidence) -> MeasureResult | None:
    """Return the comparison's matrix as it is."""
    return None if evidence.transfer is None else MeasureResult(evidence.transfer)


def rank_correlation(measure: Floats, truth: Floats) -> RankCorrelation:
    """Return Spearman's correlation of two matrices' entries off the diagonal, where both are known."""
    from scipy.stats import spearmanr

    known = np.isfinite(measure) & np.isfinite(truth) & ~np.eye(len(truth), dtype=bool)
    predicted, true = measure[known], truth[known]
    distinct = int(np.triu(known | known.T, 1).sum())
    if distinct < FEWEST_PAIRS or np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return RankCorrelation(None, len(predicted))
    correlation = spearmanr(predicted, true).statistic  # pyright: ignore[reportAttributeAccessIssue]
    return RankCorrelation(float(correlation), len(predicted))
