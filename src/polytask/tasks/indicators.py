"""Labels that a row marks by 1 or 0: in one cell for all labels, or in a column for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polytask.tasks.cells import brief
from polytask.tasks.labels import says_nothing
from polytask.tasks.reader import Row
from polytask.tasks.task_options import TaskOptions

_MARKS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True, "no": False, "yes": True}


def mark_in(value: Any) -> bool | None:  # noqa: ANN401
    """Return whether a cell marks its label; None if it is no mark.

    >>> mark_in(1), mark_in("0.0"), mark_in("Yes"), mark_in(True), mark_in(0.5)
    (True, False, True, True, None)
    """
    return _MARKS.get(str(value).strip().casefold())


def labels_in_list(marks: Sequence[Any], classes: tuple[str, ...]) -> list[str]:
    """Return the labels that a list of marks has. Raises ValueError unless it has one mark for each class."""
    booleans = [mark_in(mark) for mark in marks]
    if len(marks) != len(classes) or None in booleans:
        raise ValueError(f"found {brief(marks)}; `classes` names {len(classes)} labels, so a row is as many 0 and 1")
    return [label for label, mark in zip(classes, booleans, strict=True) if mark]


def labels_in_columns(row: Row, columns: tuple[str, ...], options: TaskOptions) -> list[str] | None:
    """Return the columns that a row marks; None if all of them are empty. Raises ValueError for any other cell."""
    marks: dict[str, bool | None] = {}
    for column in columns:
        empty = says_nothing(row.get(column), options)
        marks[column] = None if empty else mark_in(row[column])
        if not empty and marks[column] is None:
            raise ValueError(f"found {brief(row[column])} in {column!r}; a column for one label holds 0 or 1")
    unmarked = [column for column, mark in marks.items() if mark is None]
    if len(unmarked) == len(columns):
        return None
    if unmarked:
        raise ValueError(
            f"found nothing in {unmarked[0]!r}, beside marks in other columns; write 0 for a label that the row does "
            "not have, and leave all columns empty for a row that is not labelled"
        )
    return [column for column, mark in marks.items() if mark]
