"""A search on the terminal: the answer, each task, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from polytask.comparison.verdict import points
from polytask.search.search import AutoResult
from polytask.tables import add_number, grid


def show_search(result: AutoResult, out: Console) -> None:
    """Print the answer, a table of the tasks, one of the candidates, and what there is to know."""
    out.print(result.answer)
    out.print()
    table = grid("task", "metric", title="Tasks")
    for name in ("own model", "shipped", "points", "95 %", "above floor"):
        add_number(table, name)
    table.add_column("how", overflow="fold")
    for task, one in result.tasks.items():
        score, own, points = _score(one["score"]), _score(one["single"]), _points(one["delta"])
        table.add_row(task, one["metric"], own, score, points, _span(one), one["likelihood"], one["how"])
    out.print(table)
    table = grid("candidate", title="Tried: points against the single models, dev rows")
    for name in ("of a training", "worst task", "mean", "size", "passes"):
        add_number(table, name)
    for one in result.record["candidates"]:
        table.add_row(
            one["name"], f"{one['share']:.3g}", _points(one["worst"]), _points(one["mean"]), f"{one['size']:.2f}",
            f"{one['passes']:.2f}",
        )  # fmt: skip
    out.print(table)
    for one in result.record["ladder"]:
        out.print(_step(one))
    for one in result.tasks.values():
        if one["would_need"]:
            out.print(one["sentence"])
    for note in result.record["notes"]:
        out.print(f"Note: {note}")
    spent, budget = result.record["spent"], result.record["budget"]
    out.print(f"{spent:.1f} of {budget:.1f} trainings spent; all figures: {result.folder / 'auto.json'}")


def _step(step: Mapping[str, Any]) -> str:
    start = f"{step['task']}: {step['step'].replace('_', ' ')}"
    if step["why"]:
        return f"{start} was not taken: {step['why']}"
    dev = step["dev"]
    told = "" if dev is None else f", {_points(dev['delta'])} points on dev"
    return f"{start}: {'lifts it above the floor' if step['lifts'] else 'does not lift it'}{told}"


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _points(value: float | None) -> str:
    return "" if value is None else points(value)


def _span(task: Mapping[str, Any]) -> str:
    return "" if task["low"] is None else f"{_points(task['low'])} to {_points(task['high'])}"
