"""Prints a search on the terminal: its trials, the best first, and the importance of options."""

from __future__ import annotations

from rich.console import Console

from polytask.tables import add_number, grid, show_scores
from polytask.tuning.record import Tuning

SHOWN = 15


def show_tuning(tuning: Tuning, out: Console) -> None:
    """Print the trials, the importance of each option, and the best model's scores."""
    rule = tuning.record["selection"]["rule"]
    table = grid("trial", "state", title=f"Trials, rated on dev by {rule}")
    add_number(table, "value")
    for path in tuning.record["search"]:
        add_number(table, path)
    order = sorted(
        tuning.trials, key=lambda trial: (trial["state"] != "complete", -(trial["value"] or 0.0), trial["trial"])
    )
    for trial in order[:SHOWN]:
        value = "" if trial["value"] is None else f"{trial['value']:.4f}"
        cells = [str(value) for value in trial["parameters"].values()]
        table.add_row(str(trial["trial"]), trial["state"], value, *cells)
    out.print(table)
    if len(order) > SHOWN:
        out.print(f"{len(order) - SHOWN} more trials are in tune.json", style="dim")
    for path, share in sorted((tuning.importance or {}).items(), key=lambda item: -item[1]):
        out.print(f"importance of {path}: {share:.2f}", soft_wrap=True)
    if tuning.test is not None and "scores" in tuning.test:
        show_scores({"test": tuning.test["scores"]}, {}, out, {"test": tuning.test["intervals"]})
    elif tuning.test is not None:
        out.print(tuning.test["problem"], soft_wrap=True)
    for note in tuning.record["notes"]:
        out.print(f"Note: {note}", soft_wrap=True)
