"""Look-ahead: how much a step on one task's loss alone lowers another's.

Source: Fifty et al. 2021, "Efficiently Identifying Task Groupings for Multi-Task Learning" (TAG), section 3.1:
Z_ij = 1 - L_j(after a step on task i's loss in the shared parameters) / L_j(before), averaged over the training.
"""

from __future__ import annotations

import numpy as np

from polytask.relatedness.evidence import Evidence, Floats, MeasureResult, jackknife


def look_ahead(evidence: Evidence) -> MeasureResult | None:
    """Return the mean of Z over the probe's points."""
    if evidence.before is None or evidence.after is None:
        return None
    values = affinity(evidence.before, evidence.after)
    return MeasureResult(values.mean(axis=0), jackknife(lambda points: values[points].mean(axis=0), len(values)))


def affinity(before: Floats, after: Floats) -> Floats:
    """Return Z, of shape (points, T, T).

    Args:
        before: losses of shape (points, T); a loss of 0 cannot be lowered, and counts as unchanged.
        after: losses of shape (points, T, T).
    """
    losses = np.broadcast_to(before[:, None, :], after.shape)
    return 1.0 - np.divide(after, losses, out=np.ones_like(after), where=losses > 0)
