"""A comparison on the terminal: each task under each arm, what the arms take, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from polytask.comparison.arms import BASELINE
from polytask.comparison.compare import Comparison
from polytask.tables import add_number, grid


def show_comparison(found: Comparison, out: Console) -> None:
    """Print the scores with their intervals, the arms, the verdicts and the recommendation."""
    out.print(_scores(found))
    out.print(_arms(found))
    for task in found.tasks.values():
        _say(out, task["sentence"])
    out.print()
    _say(out, f"Recommended: {found.recommended}")
    _say(out, found.reason)
    for note in found.record["notes"]:
        _say(out, f"To know: {note}")


def _say(out: Console, text: str) -> None:
    out.print(text, soft_wrap=True)


def _scores(found: Comparison) -> Table:
    seeds = found.record["seeds"]
    title = f"Test scores over {len(seeds)} seeds; differences to single in points"
    table = grid("task", "arm", title=title)
    for name in ("mean and std", "difference [95 %]", "relative"):
        add_number(table, name)
    for task, one in found.tasks.items():
        margin = [task, f"({one['metric']})"]
        for index, (arm, values) in enumerate(one["arms"].items()):
            cells = _cells(values, baseline=arm == BASELINE)
            table.add_row(margin[index] if index < len(margin) else "", arm, *cells)
        table.add_section()
    return table


def _cells(values: Mapping[str, Any], *, baseline: bool) -> list[str]:
    mean, std = (_number(values[key], ".4f", 1) for key in ("mean", "std"))
    if baseline:
        return [f"{mean} {std}", "", ""]
    delta, low, high = (_number(values[key], "+.1f", 100) for key in ("delta", "low", "high"))
    relative = _number(values["relative"], "+.1f", 100) + ("" if values["relative"] is None else " %")
    return [f"{mean} {std}", f"{delta} [{low}, {high}]", relative]


def _number(value: float | None, form: str, scale: float) -> str:
    return "undefined" if value is None else format(scale * value, form)


def _arms(found: Comparison) -> Table:
    table = grid("arm", title="What each arm takes (single: all its models)")
    for name in ("parameters", "training seconds", "test rows/s", "models"):
        add_number(table, name)
    for name, arm in found.arms.items():
        speed = arm["predict_rows_per_second"]
        models = len(next(iter(arm["runs"].values())))
        table.add_row(
            name, f"{arm['parameters']:,}", f"{arm['train_seconds']:,.1f}", "-" if speed is None else f"{speed:,.0f}",
            str(models),
        )  # fmt: skip
    return table
