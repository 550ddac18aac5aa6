"""A search on the terminal: the result, the tasks, and the candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from polytask.comparison.verdict import points
from polytask.search.search import AutoResult
from polytask.tables import add_number, grid

# What is said of a step, by whether it lifts the task, and whether it was kept.
_OUTCOMES = {
    (True, True): "lifts it above the floor",
    (True, False): "lifts it above the floor, but is not part of the best combination within the limits",
    (False, True): "comes nearest, and is kept",
    (False, False): "does not lift it",
}


def show_search(result: AutoResult, out: Console) -> None:
    """Print the result, a table of the tasks, a table of the candidates, and the notes."""
    out.print(result.answer)
    out.print()
    table = grid("task", "metric", title="Tasks")
    for name in ("own model", "shipped", "points", "95 %", "above floor"):
        add_number(table, name)
    table.add_column("how", overflow="fold")
    for task, row in result.tasks.items():
        score, single_score, points = _score(row["score"]), _score(row["single"]), _points(row["delta"])
        metric = row["metric"] if row["split"] == "test" else f"{row['metric']} ({row['split']})"
        table.add_row(task, metric, single_score, score, points, _span(row), row["likelihood"], row["how"])
    out.print(table)
    if any(row["split"] == "dev" for row in result.tasks.values()):
        out.print("(dev): no test rows, so the score is optimistic: dev rows made every choice")
    table = grid("candidate", title="Tried: points against the single models, dev rows")
    for name in ("of a training", "worst task", "mean", "size", "passes"):
        add_number(table, name)
    for row in result.record["candidates"]:
        table.add_row(
            row["name"], f"{row['share']:.3g}", _points(row["worst"]), _points(row["mean"]), f"{row['size']:.2f}",
            f"{row['passes']:.2f}",
        )  # fmt: skip
    out.print(table)
    for row in result.record["ladder"]:
        out.print(_step(row))
    for row in result.tasks.values():
        if row["would_need"]:
            out.print(row["sentence"])
    for note in result.record["notes"]:
        out.print(f"Note: {note}")
    spent, budget = result.record["spent"], result.record["budget"]
    out.print(f"{spent:.1f} of {budget:.1f} trainings spent; all figures: {result.folder / 'auto.json'}")


def _step(step: Mapping[str, Any]) -> str:
    start = f"{step['task']}: {step['step'].replace('_', ' ')}"
    if step["why"]:
        return f"{start} was not taken: {step['why']}"
    dev = step["dev"]
    gain = "" if dev is None else f", {_points(dev['delta']) or 'undefined'} points on dev"
    others = ", ".join(step["trained_further"])
    kept = f"; {'also ' if step['taken'] else ''}kept for {others}, trained further in it" if others else ""
    return f"{start}: {_OUTCOMES[step['lifts'], step['taken']]}{gain}{kept}"


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _points(value: float | None) -> str:
    return "" if value is None else points(value)


def _span(task: Mapping[str, Any]) -> str:
    return "" if task["low"] is None else f"{_points(task['low'])} to {_points(task['high'])}"
