"""Groups of tasks that help each other, and the plan that follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polytask.relatedness.evidence import Floats, MeasureResult
from polytask.sharing.affinity import TIE, best_tree
from polytask.sharing.plan import Plan

# Number of standard errors above which help is counted.
CONFIDENCE = 1.0


def proven(measured: MeasureResult) -> Floats:
    """Return the affinity minus its standard error; at most 0 where no help was shown."""
    error = np.zeros_like(measured.matrix) if measured.error is None else measured.error
    affinity = np.where(np.isfinite(error), measured.matrix - CONFIDENCE * error, 0.0)
    np.fill_diagonal(affinity, 0.0)
    return affinity


def groups_of(tasks: Sequence[str], affinity: Floats) -> list[list[str]]:
    """Return the groups in which tasks gain most from each other; a task that gains nothing is alone.

    A task gains the mean affinity of the others in its group (Fifty et al. 2021, section 3.2). Among equal groupings,
    the one with the most groups is returned: help of 0 is no reason to share. Exact up to 8 tasks, then a beam search
    (see `best_tree`).

    Args:
        affinity: shape (T, T); row i, column j is how much task i helps task j.
    """
    # `best_tree` prefers few parts among equals: subtracting a tiny amount for every pair reverses that.
    scale = float(np.abs(affinity - np.diag(np.diag(affinity))).max()) or 1.0
    tree = best_tree(tasks, 1, affinity_per_level=[affinity - 1e3 * TIE * scale] * 2, max_layers=len(tasks))
    return [[task for task in tasks if task in part] for part in tree.levels[1]]


def plan_for(tasks: Sequence[str], layers: int, affinity: Floats) -> Plan:
    """Return the tree that `sharing: {strategy: from_affinity}` builds from the affinity: at most twice the layers."""
    return best_tree(tasks, layers, affinity_per_level=[affinity] * (layers + 1), max_layers=2 * layers)
