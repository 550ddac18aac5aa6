"""What a probe may cost, and how that is spent.

The unit is a row's pass through the encoder: forward is 1, backward 2. A joint run passes `batch_size` rows an update,
forward and backward; its evaluations are not counted. The probe pays 1 for a row that the heads are fitted to, 3 for a
row of an update, 3 for a row of a gradient, and for a row that is looked ahead on 1 before the steps and 1 after each.
"""

from __future__ import annotations

from dataclasses import dataclass

from polytask.errors import ConfigError

BOTH_WAYS = 3
# Of one joint run.
GREATEST_SHARE = 0.25
# How the passes are divided among the heads and the updates; the points get the rest.
HEADS, UPDATES = 0.45, 0.05
POINTS = 4
# Of a point's rows, so many of which one is added to look ahead on: losses need fewer rows than gradients.
AHEAD = 4
# Numbers that the points' gradients may hold together: 4 GiB.
MOST_NUMBERS = 2**30


@dataclass(frozen=True)
class ProbeBudget:
    """What a probe does.

    Attributes:
        head_rows: of each task, for the heads.
        updates: between two points.
        points: where gradients are measured.
        point_rows: of each task, at a point, for its gradient.
    """

    head_rows: int
    updates: int
    points: int
    point_rows: int

    @property
    def ahead_rows(self) -> int:
        """Rows of each task, at a point, on which the look-ahead's losses are taken."""
        return _ahead(self.point_rows)


def plan_budget(*, joint_passes: int, tasks: int, batch_size: int, most_rows: int, numbers: int) -> ProbeBudget:
    """Divide a quarter of a joint run. Raises ConfigError where that buys too little.

    Args:
        joint_passes: row passes of the joint run.
        batch_size: of an update.
        most_rows: that the heads of one task can use.
        numbers: parameters whose gradients are kept for each task at each point.
    """
    budget = int(GREATEST_SHARE * joint_passes)
    points = max(2, min(POINTS, MOST_NUMBERS // max(1, numbers * tasks)))
    head_rows = min(int(HEADS * budget) // tasks, most_rows)
    updates = int(UPDATES * budget) // (BOTH_WAYS * batch_size) // (points - 1)
    left = budget - head_rows * tasks - updates * (points - 1) * BOTH_WAYS * batch_size
    point_rows = _affordable(left // (points * tasks), tasks)
    if point_rows < 1 or head_rows < 2:
        needed = int(2 * tasks / HEADS / GREATEST_SHARE) + 1
        needed = max(needed, int(points * tasks * _price(1, tasks) / (1 - HEADS - UPDATES) / GREATEST_SHARE) + 1)
        raise ConfigError(
            f"train: a joint run of {joint_passes} row passes is too short for a probe of a quarter of it, which needs "
            f"{needed} for {tasks} tasks; raise train.epochs or train.max_steps"
        )
    return ProbeBudget(head_rows, updates, points, point_rows)


def _ahead(point_rows: int) -> int:
    return max(1, point_rows // AHEAD)


def _price(point_rows: int, tasks: int) -> int:
    """Return the row passes of a task at a point: its gradient, and its losses before the steps and after each."""
    return point_rows * BOTH_WAYS + _ahead(point_rows) * (1 + tasks)


def _affordable(passes: int, tasks: int) -> int:
    """Return the greatest number of rows of a task at a point that so many passes buy."""
    rows = passes // BOTH_WAYS
    while rows and _price(rows, tasks) > passes:
        rows -= 1
    return rows
