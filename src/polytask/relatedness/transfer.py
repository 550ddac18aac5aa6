"""Transfer: what training together really did, from a comparison; and how well the measures foretold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytask.relatedness.evidence import Evidence, Floats, MeasureResult

# A rank correlation of two pairs of tasks is always 1 or -1.
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class RankCorrelation:
    """How well a measure's order is that of the true transfer.

    Attributes:
        spearman: None where it is undefined: too few pairs, or all alike.
        pairs: ordered pairs of tasks that were compared.
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
    one, other = measure[known], truth[known]
    distinct = int(np.triu(known | known.T, 1).sum())
    if distinct < FEWEST_PAIRS or np.ptp(one) == 0 or np.ptp(other) == 0:
        return RankCorrelation(None, len(one))
    found = spearmanr(one, other).statistic  # pyright: ignore[reportAttributeAccessIssue]
    return RankCorrelation(float(found), len(one))
