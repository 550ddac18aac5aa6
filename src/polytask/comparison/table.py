"""A comparison on the terminal: scores of each task and arm, costs of the arms, and the recommendation."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from polytask.arm_tables import FORMATS, Entry, entry_of, significance
from polytask.comparison.arms import BASELINE
from polytask.comparison.compare import Comparison
from polytask.comparison.merging import RECORD
from polytask.errors import UserError, nearest
from polytask.files import read_json
from polytask.regular import is_file, is_folder
from polytask.tables import add_number, grid


def read_format(text: str | None) -> str | None:
    """Return the name of a table format. Raises UserError for an unknown one."""
    if text is not None and text not in FORMATS:
        raise UserError(f"--to: found {text!r}; {nearest(text, FORMATS)}")
    return text


def print_table(folder: Path, form: str | None) -> None:
    """Print the table of the comparison in a folder to stdout. Raises UserError if there is none."""
    if not is_file(folder / RECORD):
        problem = "the folder holds no comparison" if is_folder(folder) else "not the folder of a comparison"
        raise UserError(f"{folder}: {problem}; to train one give a configuration, and --out its folder")
    if form is None:
        raise UserError(f"{folder}: name the format of the table: --to {', '.join(FORMATS)}")
    sys.stdout.write(FORMATS[form](read_json(folder / RECORD)))


def show_comparison(comparison: Comparison, out: Console) -> None:
    """Print the scores with their intervals, the arms, the verdicts and the recommendation."""
    table = _scores(comparison)
    if out.measure(table, options=out.options.update(width=10 * out.width)).maximum <= out.width:
        out.print(table)
    else:
        _print_lines(comparison, out)
    _say(out, _READING)
    out.print(_arms(comparison))
    for task in comparison.tasks.values():
        _say(out, task["sentence"])
    out.print()
    _say(out, f"Recommended: {comparison.recommended}")
    _say(out, comparison.reason)
    for note in comparison.record["notes"]:
        _say(out, f"Note: {note}")


_READING = (
    "p: p-value of the difference to single, corrected for the number of arms (Holm); * better and † worse at 0.05. "
    "The verdicts below use the intervals, uncorrected."
)


def _say(out: Console, text: str) -> None:
    out.print(text, soft_wrap=True)


def _scores(comparison: Comparison) -> Table:
    seeds = comparison.record["seeds"]
    title = f"{_scores_of(comparison)} over {len(seeds)} seeds, and differences to single, in points"
    table = grid("task", "arm", title=title)
    for name in ("mean ± std", "difference [95 %]", "relative", "p (Holm)"):
        add_number(table, name)
    for task, result in comparison.tasks.items():
        margin = [task, f"({result['metric']})"]
        for index, (arm, values) in enumerate(result["arms"].items()):
            cells = _cells(values, entry_of(result, arm), baseline=arm == BASELINE)
            table.add_row(margin[index] if index < len(margin) else "", arm, *cells)
        table.add_section()
    return table


def _scores_of(comparison: Comparison) -> str:
    folds = comparison.record.get("folds", 0)
    return f"Scores of {folds} folds of the training rows" if folds else "Test scores"


def _print_lines(comparison: Comparison, out: Console) -> None:
    """Print the scores without columns, so that a narrow terminal does not break the names of arms."""
    _say(out, f"{_scores_of(comparison)}, mean ± std, and differences to single, in points")
    for task, result in comparison.tasks.items():
        _say(out, f"{task} ({result['metric']})")
        for arm, values in result["arms"].items():
            cells = _cells(values, entry_of(result, arm), baseline=arm == BASELINE)
            figures = [cell for cell in cells if cell]
            _say(out, f"  {arm}")
            _say(out, f"    {'  '.join([*figures[:-1], f'p {figures[-1]}'] if len(figures) > 1 else figures)}")


def _cells(values: Mapping[str, Any], entry: Entry, *, baseline: bool) -> list[str]:
    spread = "" if entry.spread is None else f" ± {entry.spread}"
    scores = f"{'best ' if entry.best else ''}{'undefined' if entry.mean is None else entry.mean}{spread}"
    if baseline:
        return [scores, "", "", ""]
    delta, low, high = (_number(values[key], "+z.1f", 100) for key in ("delta", "low", "high"))
    relative = _number(values["relative"], "+z.1f", 100) + ("" if values["relative"] is None else " %")
    corrected = _number(values.get("p_holm"), ".3f", 1)
    return [scores, f"{delta} [{low}, {high}]", relative, f"{corrected} {significance(values)}".rstrip()]


def _number(value: float | None, form: str, scale: float) -> str:
    return "undefined" if value is None else format(scale * value, form)


def _arms(comparison: Comparison) -> Table:
    table = grid("arm", title="Costs of each arm (single: all models together)")
    for name in ("parameters", "training seconds", "rows/s", "models"):
        add_number(table, name)
    for name, arm in comparison.arms.items():
        speed = arm["predict_rows_per_second"]
        models = len(next(iter(arm["runs"].values()))) // max(1, comparison.record.get("folds", 0))
        table.add_row(
            name, f"{arm['parameters']:,}", f"{arm['train_seconds']:,.1f}", "-" if speed is None else f"{speed:,.0f}",
            str(models),
        )  # fmt: skip
    return table
