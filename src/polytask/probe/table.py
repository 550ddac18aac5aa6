"""Relatedness on the terminal: matrices, groups, the plan, the cost, and an interpretation."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from polytask.relatedness import MEASURES, MeasureResult
from polytask.relatedness.record import Relatedness
from polytask.tables import add_number, grid


def show_relatedness(relatedness: Relatedness, out: Console) -> None:
    """Print the whole result."""
    for name, measured in relatedness.measures.items():
        out.print(_matrix(name, measured, relatedness.tasks))
        out.print(MEASURES[name].meaning, style="dim")
        out.print()
    layered = relatedness.measures[relatedness.grouped_by]
    if layered.layers:
        out.print(_layers(relatedness.grouped_by, layered, relatedness.tasks))
        out.print()
    out.print(f"Groups, by {MEASURES[relatedness.grouped_by].title.lower()}:")
    for group in relatedness.groups:
        out.print(f"  {', '.join(group)}", soft_wrap=True)
    out.print("\nProposed plan:")
    out.print(relatedness.plan.picture(), soft_wrap=True)
    out.print()
    for name, correlation in relatedness.rank_correlation.items():
        value = "undefined" if correlation.spearman is None else f"{correlation.spearman:+.2f}"
        out.print(f"Rank correlation of {MEASURES[name].title} with the transfer: {value} ({correlation.pairs} pairs)")
    for sentence in relatedness.sentences:
        out.print(f"* {sentence}", soft_wrap=True)
    cost = relatedness.cost
    out.print(
        f"\nThe probe took {cost.seconds:.1f} s and {cost.row_passes:,} row passes: "
        f"{100 * cost.share_of_joint_run:.1f} % of one joint run's {cost.joint_row_passes:,}."
    )


def _matrix(name: str, measured: MeasureResult, tasks: tuple[str, ...]) -> Table:
    error, form = measured.error, _form(measured)
    table = grid("", title=MEASURES[name].title + (" (± standard error)" if error is not None else ""))
    for task in tasks:
        add_number(table, task)
    for i, task in enumerate(tasks):
        cells = [
            _cell(float(value), None if error is None or i == j else float(error[i, j]), form)
            for j, value in enumerate(measured.matrix[i])
        ]
        table.add_row(task, *cells)
    return table


def _layers(name: str, measured: MeasureResult, tasks: tuple[str, ...]) -> Table:
    table, form = grid("pair", title=f"{MEASURES[name].title} by layer"), _form(measured)
    for number in measured.layers:
        add_number(table, number)
    for i, one in enumerate(tasks):
        for j in range(i + 1, len(tasks)):
            values = (_cell(float(matrix[i, j]), None, form) for matrix in measured.layers.values())
            table.add_row(f"{one}, {tasks[j]}", *values)
    return table


def _form(measured: MeasureResult) -> str:
    """Return the number format of a measure: look-ahead values are often thousandths."""
    known = [abs(float(value)) for value in measured.matrix.flat if value == value]
    return "z.2f" if max(known, default=0.0) >= 0.1 else ".1e"


def _cell(value: float, error: float | None, form: str) -> str:
    if value != value:
        return "-"
    return f"{value:{form}}" if error is None else f"{value:{form}} ± {error:{form}}"
