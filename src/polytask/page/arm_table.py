"""The scores of a comparison as one table of tasks and arms, for the page and for copying."""

from __future__ import annotations

from typing import Any

from polytask.arm_tables import FORMATS, entry_of
from polytask.page.block import Cell, Code, Details, Strong, TableBlock
from polytask.page.search_form import ComparisonForm

MOST_COLUMNS = 6  # of arms side by side


def arm_table(value: ComparisonForm) -> list[TableBlock | Details]:
    """Return the table, and its text forms for copying."""
    record = value.model_dump()
    arms = list(dict.fromkeys(arm for found in value.tasks.values() for arm in found.arms))
    tasks = record["tasks"]
    if len(arms) > max(
        len(tasks), MOST_COLUMNS
    ):  # the longer side of the table, with the long names, runs down the page
        columns = ["arm", *(f"{task} ({found['metric']})" for task, found in tasks.items())]
        rows: list[list[Cell]] = [[arm, *(_cell(found, arm) for found in tasks.values())] for arm in arms]
    else:
        columns = ["task", "metric", *arms]
        rows = [[task, found["metric"], *(_cell(found, arm) for arm in arms)] for task, found in tasks.items()]
    caption = "Mean over seeds ± standard deviation in points (errors in their own unit); the best of each task in bold"
    return [
        TableBlock(caption, columns, rows, words=2 if columns[0] == "task" else 1),
        Details("Copy as CSV", [Code("Scores as CSV", FORMATS["csv"](record))]),
        Details("Copy as LaTeX", [Code("Scores as LaTeX, with booktabs", FORMATS["latex"](record))]),
    ]


def _cell(task: dict[str, Any], arm: str) -> Cell:
    entry = entry_of(task, arm)
    if entry.mean is None:
        return ""
    spread = "" if entry.spread is None else f" ± {entry.spread}"
    text = f"{entry.mean}{spread}{entry.mark}".replace("-", "\u2212")
    return Strong(text) if entry.best else text
