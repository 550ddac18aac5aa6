"""Tables on the terminal: the parts of a run, and its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table

from polytask.model.parameters import count_parameters
from polytask.tasks import Task
from polytask.tasks.metric import has_interval
from polytask.terminal import PlainConsole
from polytask.terms import Intervals, Scores, Split

if TYPE_CHECKING:
    from polytask.assembly import Assembly
    from polytask.model.parameters import ParameterCount


def console() -> Console:
    """Return the console for results, on stdout."""
    return PlainConsole()


def grid(*columns: str, title: str) -> Table:
    """Return an empty table whose cells wrap if the terminal is too narrow."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def add_number(table: Table, name: str, *, style: str | None = None) -> None:
    """Add a column of numbers."""
    table.add_column(name, justify="right", overflow="fold", style=style)


def show_scores(
    scores: Mapping[str, Scores],
    baselines: Mapping[str, Scores],
    out: Console,
    intervals: Mapping[str, Intervals] | None = None,
    *,
    rows: Mapping[str, int] | None = None,
    every: bool = False,
) -> None:
    """Print each task's scores by split, with their intervals and those of the majority baseline where known.

    Args:
        rows: number of scored rows by task, to show as a column.
        every: whether to show all metrics instead of the main one only.
    """
    table = grid("task", title="Scores")
    if rows is not None:
        add_number(table, "rows")
    table.add_column("metric", overflow="fold")
    columns: list[Mapping[str, Mapping[str, str]]] = []
    for split, by_task in scores.items():
        add_number(table, split)
        columns.append(_cells(by_task, cell))
        if intervals is not None and split in intervals:
            add_number(table, "95 %")
            columns.append(_cells(_with_interval(intervals[split]), interval_cell))
        if split in baselines:
            add_number(table, "majority", style="dim")
            columns.append(_cells(baselines[split], cell))
    shown = {task: chosen_metrics(metrics, every=every) for task, metrics in next(iter(scores.values()), {}).items()}
    for task, metrics in shown.items():
        for index, metric in enumerate(metrics):
            cells = [by_task.get(task, {}).get(metric, "") for by_task in columns]
            counts = [] if rows is None else [str(rows[task])]
            first = [task, *counts] if index == 0 else [""] * (1 + len(counts))
            table.add_row(*first, metric, *cells)
        table.add_section()
    out.print(table)
    metrics = {metric for listed in shown.values() for metric in listed}
    explanations = [
        *([_MAJORITY] if not baselines.keys().isdisjoint(scores) else []),
        *([_INTERVAL] if intervals and not intervals.keys().isdisjoint(scores) else []),
        *(text for metric, text in _METRICS.items() if metric in metrics),
    ]
    if explanations:
        out.print("; ".join(explanations), soft_wrap=True)


# Explanations of metrics and columns, shown below the table.
_MAJORITY = "majority: score of always predicting the most frequent label"
_INTERVAL = "95 %: confidence interval of the score (bootstrap over rows)"
_METRICS = {
    "pearson": "pearson: correlation with the true values, 1 is perfect, 0 is chance, undefined for the majority",
    "mae": "mae: mean absolute error, lower is better",
    "cross_entropy": "cross_entropy: against the label distributions, lower is better",
    "roc_auc": "roc_auc: how often a positive row gets a higher probability than a negative row, 0.5 is chance",
    "average_precision": "average_precision: mean precision at the ranks of the positive rows",
    "ece": "ece: mean gap between confidence and correctness, lower is better",
}


def chosen_metrics(metrics: Iterable[str], *, every: bool) -> list[str]:
    """Return the metrics to show: the first one, which is the main metric, or all."""
    names = list(metrics)
    return names if every else names[:1]


def _with_interval(intervals: Intervals) -> Intervals:
    return {
        task: {name: interval for name, interval in by.items() if has_interval(name)} for task, by in intervals.items()
    }


_T = TypeVar("_T")


def _cells(by_task: Mapping[str, Mapping[str, _T]], show: Callable[[_T], str]) -> dict[str, dict[str, str]]:
    return {task: {metric: show(value) for metric, value in values.items()} for task, values in by_task.items()}


def show_stages(stages: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print each task's main dev score after every stage, and its loss since its own stage; nothing for one stage."""
    if len(stages) < 2:
        return
    table = grid("task", title="Dev scores after each stage")
    for stage in stages:
        add_number(table, f"after {stage['stage']}")
    add_number(table, "lost since its own stage")
    own_stage = {stage["stage"]: stage["scores"] for stage in stages}
    for task in stages[0]["scores"]:
        scores = [stage["scores"][task] for stage in stages]
        before = own_stage[task][task] if task in own_stage else None
        lost = None if before is None or scores[-1] is None else before - scores[-1]
        table.add_row(task, *map(cell, scores), "" if lost is None else cell(lost))
    out.print(table)


def show_before(
    before: Mapping[str, Scores], after: Mapping[str, Scores], out: Console, *, every: bool = False
) -> None:
    """Print the old tasks' scores before and after an extension; nothing if none was scored."""
    if not before:
        return
    table = grid("task", "metric", title="Old tasks")
    for split in before:
        add_number(table, f"{split} before")
        add_number(table, "after")
    for task, metrics in next(iter(before.values())).items():
        for index, metric in enumerate(chosen_metrics(metrics, every=every)):
            pairs = [(scores.get(task, {}).get(metric), after[split].get(task, {}).get(metric))
                     for split, scores in before.items()]  # fmt: skip
            table.add_row(task if index == 0 else "", metric, *(cell(value) for pair in pairs for value in pair))
    out.print(table)


def show_answer(text: str, predictions: Mapping[str, Any], out: Console) -> None:
    """Print a text, followed by one line per task: its label with probability, its number, or its spans."""
    out.print(text, soft_wrap=True)
    width = max(map(len, predictions))
    for task, prediction in predictions.items():
        out.print(f"  {task.ljust(width)}  {prediction_text(prediction)}", soft_wrap=True)


def prediction_text(prediction: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return a short form of a prediction."""
    if not isinstance(prediction, Mapping):
        return ", ".join(f"{span['text']} ({span['label']})" for span in prediction) or "none"
    if "label" in prediction:
        return f"{prediction['label']} ({prediction['probabilities'][prediction['label']]:.2f})"
    if "level" in prediction:
        return f"{prediction['level']} ({prediction['probabilities'][prediction['level']]:.2f})"
    if "labels" in prediction:
        return ", ".join(prediction["labels"]) or "none"
    return ", ".join(f"{name} {value}" for name, value in prediction.items())


def cell(value: float | None) -> str:
    """Format a score."""
    return "undefined" if value is None else f"{value:.4f}"


def interval_cell(value: tuple[float, float] | None) -> str:
    """Format the interval of a score."""
    return "undefined" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"


def assembly_text(assembly: Assembly) -> str:
    """Return the output of `show_assembly` as text."""
    out = PlainConsole(styles=False)
    with out.capture() as captured:
        show_assembly(assembly, out)
    return captured.get()


def row_counts(assembly: Assembly, task: str) -> dict[Split, int]:
    """Return the number of rows with a task's label, by split."""
    return {
        split: sum(len(source.drawn[task]) for source in sources if task in source.tasks)
        for split, sources in assembly.sources.items()
    }


def show_assembly(assembly: Assembly, out: Console) -> None:
    """Print what will run: tasks, rows, labels, lengths, parameters, sharing plan, and notes."""
    for table in (_tasks(assembly), _sources(assembly), _labels(assembly)):
        out.print(table)
        out.print()
    count = count_parameters(assembly.model)
    out.print(_parameters(count))
    out.print(f"{count.total:,} in total:")
    out.print(f"  {count.total / count.single:.2f} times the parameters of a model that shares the whole encoder")
    out.print(f"  {count.total / count.apart:.2f} times the parameters of one model per task")
    out.print()
    out.print("What the tasks share:")
    out.print(assembly.model.sharing.picture(), soft_wrap=True)
    out.print()
    out.print(f"When each task trains ({assembly.config.schedule.strategy}):")
    schedule, most = assembly.schedule(), assembly.config.train.max_steps
    for line in schedule.describe():
        out.print(f"  {line}", soft_wrap=True)
    if most is not None and most < schedule.limit:
        out.print(f"  the run ends after {most} of these steps (train.max_steps)", soft_wrap=True)
    out.print(f"How the losses are combined: {assembly.config.balance.method}")
    out.print()
    if assembly.choices:
        out.print("Resolved auto values:")
        for choice in assembly.choices:
            line = f"  {choice.option}: {choice.value} ({choice.reason})"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print()
    if assembly.notes:
        out.print("Notes:")
        for note in assembly.notes:
            out.print(f"  {note.place}: {note.message}", soft_wrap=True)


def _tasks(assembly: Assembly) -> Table:
    table = grid("task", "type", "metric", title="Tasks")
    for name in ("labels", "train", "dev", "test"):
        add_number(table, name)
    for name, task in assembly.tasks.items():
        counts = row_counts(assembly, name).values()
        labels = str(len(task.labels)) if task.labels else _kind(task)
        table.add_row(name, task.type_name, task.metric, labels, *(str(count) if count else "-" for count in counts))
    return table


def _sources(assembly: Assembly) -> Table:
    from polytask.results import describe_source

    table = grid("split", "tasks", title="Labelled rows, and their lengths in tokens")
    for name in ("rows", "median", "95 %", "longest", "truncated"):
        add_number(table, name)
    for split, sources in assembly.sources.items():
        for source in sources:
            record = describe_source(source)
            table.add_row(
                split, ", ".join(source.tasks), str(record["rows"]), f"{record['median']:.0f}", f"{record['p95']:.0f}",
                str(record["longest"]), str(record["truncated"]),
            )  # fmt: skip
    return table


def _kind(task: Task) -> str:
    """Describe the output of a task without labels."""
    return (
        "-" if not task.answers else "vector" if task.gives_vectors else "options" if task.options_column else "number"
    )


def _labels(assembly: Assembly) -> Table:
    table = grid("task", "labels", title="Labels in training (percentage of rows; for tags, of words)")
    for name, task in assembly.tasks.items():
        stats = next(
            table_stats.label_stats[name]
            for table_stats in assembly.tables.tables["train"]
            if name in table_stats.label_stats
        )
        if not task.answers:
            continue
        if task.gives_vectors and not stats.numbers:
            table.add_row(name, "texts that belong together")
            continue
        if task.options_column is not None:
            table.add_row(name, f"each row's own options, in {task.options_column!r}")
            continue
        if not task.labels:
            table.add_row(name, f"from {stats.low:g} to {stats.high:g}, mean {stats.mean:.3g}")
            continue
        total = stats.present if task.label_type == "list<string>" and task.level == "row" else stats.labels.total()
        shown = stats.labels.most_common(12)
        listed = ", ".join(f"{label} {100 * count / total:.1f} %" for label, count in shown)
        rest = len(stats.labels) - len(shown)
        table.add_row(name, listed + (f", {rest} more" if rest else ""))
    return table


def _parameters(count: ParameterCount) -> Table:
    table = grid("task", title="Parameters")
    for name in ("shared", "own"):
        add_number(table, name)
    for task in count.shared:
        table.add_row(task, f"{count.shared[task]:,}", f"{count.own[task]:,}")
    return table
