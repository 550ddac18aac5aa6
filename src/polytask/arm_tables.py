"""Tables of a comparison as CSV, LaTeX and Markdown: arms by tasks with mean and spread, the best arm marked.

They are built from comparison.json alone. A new format is one function and one row of `FORMATS`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from polytask.errors import OutputError
from polytask.terminal import visible

# Corrected p-values below this are marked.
SIGNIFICANT = 0.05
# Metrics with a unit of their own; all others lie between -1 and 1 and are shown in points (hundredths).
_OWN_UNIT = frozenset({"mae"})
_COLUMNS = (
    "task", "metric", "arm", "seeds", "mean", "std", "delta", "low", "high", "relative", "p", "p_holm", "best",
)  # fmt: skip

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """The scores of an arm in a task, as text.

    Attributes:
        mean, spread: mean and standard deviation; None if undefined.
        best: whether no other arm has a better mean.
        mark: "*" if the arm is significantly better than `single` after the correction; "†" if it is worse.
    """

    mean: str | None
    spread: str | None
    best: bool
    mark: str


def to_csv(record: Record) -> str:
    """Return one line per task and arm, with all figures as in comparison.json."""
    _require_tables(record)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for task, result in record["tasks"].items():
        for arm, values in result["arms"].items():
            cells = {
                **values, "task": _one_line(task), "metric": result["metric"], "arm": _one_line(arm),
                "seeds": len(values["values"]), "best": int(arm in _best(result)),
            }  # fmt: skip
            lines.writerow([_cell(cells.get(name)) for name in _COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:  # noqa: ANN401
    """Return a value for a CSV cell: nothing for None, and 0.0 for -0.0."""
    if value is None:
        return ""
    return value + 0.0 if isinstance(value, float) else value


def to_latex(record: Record) -> str:
    """Return a LaTeX table environment, which needs the package booktabs."""
    _require_tables(record)
    tasks = record["tasks"]
    heads = [_latex(task) + _arrow(result, " $\\downarrow$") for task, result in tasks.items()]
    metrics = [_latex(result["metric"]) for result in tasks.values()]
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\begin{{tabular}}{{l{'c' * (len(heads) + _has_overall(record))}}}",
        "\\toprule",
        _latex_row(["", *heads, *(["mean over tasks"] if _has_overall(record) else [])]),
        _latex_row(["", *metrics, *(["\\%"] if _has_overall(record) else [])]),
        "\\midrule",
    ]
    for arm, entries in _rows(record):
        overall = [_latex(text).replace("-", "$-$") for text in _overall(record, arm)]
        lines.append(_latex_row([_latex(arm), *map(_latex_entry, entries), *overall]))
    caption = _caption(record, _LATEX_MARKS, _latex)
    return "\n".join([
        *lines, "\\bottomrule", "\\end{tabular}", f"\\caption{{{caption}}}", "\\end{table}", "",
    ])  # fmt: skip


def to_markdown(record: Record) -> str:
    """Return a table, followed by a line that explains it."""
    _require_tables(record)
    heads = [
        f"{_markdown(task)} ({_markdown(result['metric'])}{_arrow(result, ' ↓')})"
        for task, result in record["tasks"].items()
    ]
    columns = ["arm", *heads, *(["mean over tasks, %"] if _has_overall(record) else [])]
    rows = [
        [_markdown(arm), *map(_markdown_entry, entries), *_overall(record, arm)] for arm, entries in _rows(record)
    ]  # fmt: skip
    lines = [columns, ["---", *(["---:"] * (len(columns) - 1))], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_caption(record, _MARKDOWN_MARKS, _markdown)}\n"


FORMATS: dict[str, Callable[[Record], str]] = {"csv": to_csv, "latex": to_latex, "markdown": to_markdown}


def _require_tables(record: Record) -> None:
    """Raise OutputError if a record lacks values that the tables need."""
    try:
        for result in record["tasks"].values():
            for values in result["arms"].values():
                _ = result["metric"], result["smaller_is_better"], values["mean"], values["std"], values["values"]
        _ = record["arms"], record["seeds"]
    except (KeyError, TypeError, AttributeError):
        raise OutputError(
            "comparison.json holds no scores of arms, or was altered; start the same comparison again"
        ) from None


def arms_of(record: Record) -> list[str]:
    """Return the arms that have one score per task, in their order."""
    scored = {arm for task in record["tasks"].values() for arm in task["arms"]}
    return [arm for arm in record["arms"] if arm in scored]


def _best(task: Mapping[str, Any]) -> set[str]:
    """Return the arms with the best mean of a task: several if they are equal, none if all are."""
    means = {arm: values["mean"] for arm, values in task["arms"].items() if values["mean"] is not None}
    if not means:
        return set()
    best = (min if task["smaller_is_better"] else max)(means.values())
    best_arms = {arm for arm, mean in means.items() if mean == best}
    return best_arms if len(best_arms) < max(2, len(means)) else set()


def significance(values: Mapping[str, Any]) -> str:
    """Return "*" for an arm that is significantly better than `single` after the correction, "†" for a worse one.

    >>> significance({"delta": 0.1, "p_holm": 0.01}), significance({"delta": -0.1, "p_holm": 0.2})
    ('*', '')
    """
    corrected, delta = values.get("p_holm"), values.get("delta")
    if corrected is None or not delta or corrected >= SIGNIFICANT:
        return ""
    return "*" if delta > 0 else "†"


def entry_of(task: Mapping[str, Any], arm: str) -> Entry:
    """Return the cell of an arm in the column of a task."""
    values = task["arms"].get(arm)
    if values is None or values["mean"] is None:
        return Entry(None, None, best=False, mark="")
    metric = task["metric"]
    spread = None if values["std"] is None else score_text(metric, values["std"])
    return Entry(score_text(metric, values["mean"]), spread, arm in _best(task), significance(values))


def score_text(metric: str, value: float) -> str:
    """Format a score in points, or in the unit of its metric if that has one.

    >>> score_text("accuracy", 0.87125), score_text("mae", 0.5)
    ('87.12', '0.5000')
    """
    return f"{value:z.4f}" if metric in _OWN_UNIT else f"{100 * value:z.2f}"


def _rows(record: Record) -> Iterator[tuple[str, list[Entry]]]:
    for arm in arms_of(record):
        yield arm, [entry_of(task, arm) for task in record["tasks"].values()]


def _arrow(task: Mapping[str, Any], arrow: str) -> str:
    return arrow if task["smaller_is_better"] else ""


def _has_overall(record: Record) -> bool:
    return any(record.get("overall", {}).values())


def _overall(record: Record, arm: str) -> list[str]:
    """Return an arm's mean relative difference over tasks in percent, if the table has this column."""
    if not _has_overall(record):
        return []
    difference = record["overall"].get(arm)
    return ["" if difference is None else f"{100 * difference['mean']:+z.1f}"]


def _caption(record: Record, marks: Mapping[str, str], escape: Callable[[str], str]) -> str:
    seeds = len(record["seeds"])
    arms = record["arms"].items()
    fewer = [f"{escape(name)}: {len(arm['runs'])}" for name, arm in arms if 0 < len(arm.get("runs", ())) < seeds]
    over = f"{seeds} seeds" + (f" ({', '.join(fewer)})" if fewer else "")
    folds = record.get("folds", 0)
    over += f" and {folds} folds of the training rows" if folds else ""
    own_units = [escape(metric) for metric in sorted({task["metric"] for task in record["tasks"].values()} & _OWN_UNIT)]
    unit = f"in points (hundredths; {', '.join(own_units)} in its own unit)" if own_units else "in points (hundredths)"
    overall = " The last column is the mean relative difference to single." if _has_overall(record) else ""
    rows = "rows" if folds else "test rows"
    return (
        f"Mean and standard deviation over {over}, {unit}; the best of each task is bold. {marks['*']} better and "
        f"{marks['†']} worse than single (p below {SIGNIFICANT}, two-sided paired bootstrap over {rows} and "
        f"seeds, corrected by Holm's method for the arms of a task).{overall}"
    )


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _latex_entry(entry: Entry) -> str:
    if entry.mean is None:
        return "--"
    mean = entry.mean.replace("-", "$-$")  # a hyphen is no minus
    mean = f"\\textbf{{{mean}}}" if entry.best else mean
    spread = "" if entry.spread is None else f" $\\pm$ {entry.spread}"
    return f"{mean}{spread}{_LATEX_MARKS[entry.mark]}"


_LATEX_MARKS = {"": "", "*": "$^{*}$", "†": "$^{\\dagger}$"}
_MARKDOWN_MARKS = {"": "", "*": "\\*", "†": "†"}
_LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "_": "\\_", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _markdown_entry(entry: Entry) -> str:
    if entry.mean is None:
        return "–"
    mean = f"**{entry.mean}**" if entry.best else entry.mean
    spread = "" if entry.spread is None else f" ± {entry.spread}"
    return f"{mean}{spread} {_MARKDOWN_MARKS[entry.mark]}".rstrip()


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))
