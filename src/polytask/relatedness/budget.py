"""What a probe may cost, and how that is spent.

The unit is a row's pass through the encoder: forward is 1, backward 2. A joint run passes `batch_rows` rows an update,
forward and backward; its evaluations are not counted. The probe pays 1 for a row that the heads are fitted to, 3 for a
row of an update, and for each row at a point 3 for its task's gradient and 1 for each look ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

from polytask.errors import ConfigError

BOTH_WAYS = 3
# Of one joint run.
GREATEST_SHARE = 0.25
# How the passes are divided among the heads and the updates; the points get the rest.
HEADS, UPDATES = 0.3, 0.15
POINTS = 4
# Numbers that the points' gradients may hold together: 4 GiB.
MOST_NUMBERS = 2**30


@dataclass(frozen=True)
class Spending:
    """What a probe does.

    Attributes:
        head_rows: of each task, for the heads.
        updates: between two points.
        points: where gradients are measured.
        point_rows: of each task, at a point.
    """

    head_rows: int
    updates: int
    points: int
    point_rows: int


def spend(*, joint_passes: int, tasks: int, batch_rows: int, most_rows: int, numbers: int) -> Spending:
    """Divide a quarter of a joint run. Raises ConfigError where that buys too little.

    Args:
        joint_passes: row passes of the joint run.
        batch_rows: of an update.
        most_rows: that the heads of one task can use.
        numbers: parameters whose gradients are kept for each task at each point.
    """
    budget = int(GREATEST_SHARE * joint_passes)
    points = max(2, min(POINTS, MOST_NUMBERS // max(1, numbers * tasks)))
    head_rows = min(int(HEADS * budget) // tasks, most_rows)
    updates = int(UPDATES * budget) // (BOTH_WAYS * batch_rows) // (points - 1)
    left = budget - head_rows * tasks - updates * (points - 1) * BOTH_WAYS * batch_rows
    a_row = tasks * (BOTH_WAYS + tasks)  # a row of each task at a point
    point_rows = left // (points * a_row)
    if point_rows < 1 or head_rows < 2:
        needed = int(2 * tasks / HEADS / GREATEST_SHARE) + 1
        needed = max(needed, int(points * a_row / (1 - HEADS - UPDATES) / GREATEST_SHARE) + 1)
        raise ConfigError(
            f"train: a joint run of {joint_passes} row passes is too short for a probe of a quarter of it, which needs "
            f"{needed} for {tasks} tasks; raise train.epochs or train.max_steps"
        )
    return Spending(head_rows, updates, points, point_rows)
