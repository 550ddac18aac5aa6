"""The budget of a probe and its division.

The unit is a row's pass through the encoder: forward is 1, backward 2. A joint run passes `batch_size` rows per update,
forward and backward; its evaluations are not counted. In the probe, a row for fitting the heads costs 1, a row of an
update 3, a row of a gradient 3, and a row of the look-ahead 1 before the steps and 1 after each step.
"""

from __future__ import annotations

from dataclasses import dataclass

from polytask.errors import ConfigError

BOTH_WAYS = 3
# Maximum cost, relative to one joint run.
GREATEST_SHARE = 0.25
# Shares of the heads and of the updates; the points get the rest.
HEADS, UPDATES = 0.45, 0.05
POINTS = 4
# Gradient rows per look-ahead row at a point: losses need fewer rows than gradients.
AHEAD = 4
# Maximum number of elements of all points' gradients together: 4 GiB.
MOST_NUMBERS = 2**30


@dataclass(frozen=True)
class ProbeBudget:
    """The budget of a probe.

    Attributes:
        head_rows: rows of each task for fitting the heads.
        updates: updates between two points.
        points: number of points at which gradients are measured.
        point_rows: rows of each task for its gradient at a point.
    """

    head_rows: int
    updates: int
    points: int
    point_rows: int

    @property
    def ahead_rows(self) -> int:
        """Rows of each task for the look-ahead's losses at a point."""
        return _ahead(self.point_rows)


def plan_budget(*, joint_passes: int, tasks: int, batch_size: int, most_rows: int, numbers: int) -> ProbeBudget:
    """Divide a quarter of a joint run. Raises ConfigError if that is too little.

    Args:
        joint_passes: row passes of the joint run.
        tasks: number of tasks.
        batch_size: rows per update.
        most_rows: maximum number of rows that the head of one task can use.
        numbers: number of parameters whose gradients are kept for each task at each point.
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
    """Return the maximum number of rows of a task at a point within this number of passes."""
    rows = passes // BOTH_WAYS
    while rows and _price(rows, tasks) > passes:
        rows -= 1
    return rows
