"""Groups of tasks that help each other, and the plan that follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polytask.relatedness.evidence import Floats, MeasureResult
from polytask.sharing.affinity import TIE, best_tree
from polytask.sharing.plan import Plan

# Help counts from where it exceeds so many standard errors.
CONFIDENCE = 1.0


def proven(measured: MeasureResult) -> Floats:
    """Return the affinity that is left when each entry's doubt is taken off: not above 0 where nothing was shown."""
    error = np.zeros_like(measured.matrix) if measured.error is None else measured.error
    found = np.where(np.isfinite(error), measured.matrix - CONFIDENCE * error, 0.0)
    np.fill_diagonal(found, 0.0)
    return found


def groups_of(tasks: Sequence[str], affinity: Floats) -> list[list[str]]:
    """Return the groups in which tasks gain most from their companions; a task that gains nothing stands alone.

    A task gains the mean affinity of its companions (Fifty et al. 2021, section 3.2). Of equal groupings the one with
    the most groups: help of 0 is no reason to share. Exact up to 8 tasks, then a beam search (see `best_tree`).

    Args:
        affinity: T x T; row i, column j is how much task i helps task j.
    """
    # `best_tree` prefers few parts among equals: less help than any real one, for every pair, turns that around.
    scale = float(np.abs(affinity - np.diag(np.diag(affinity))).max()) or 1.0
    found = best_tree(tasks, 1, affinity_per_level=[affinity - 1e3 * TIE * scale] * 2, max_layers=len(tasks))
    return [[task for task in tasks if task in part] for part in found.levels[1]]


def plan_for(tasks: Sequence[str], layers: int, affinity: Floats) -> Plan:
    """Return the tree that `sharing: {strategy: from_affinity}` builds from the affinity: at most twice the layers."""
    return best_tree(tasks, layers, affinity_per_level=[affinity] * (layers + 1), max_layers=2 * layers)
