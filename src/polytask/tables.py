"""Tables on the terminal: what a run is made of, and what it scored."""

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
    """Return the console for results: stdout."""
    return PlainConsole()


def grid(*columns: str, title: str) -> Table:
    """Return a table without rows; where a terminal is too narrow its cells go on in another line."""
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
    every: bool = False,
) -> None:
    """Print each task's scores by split, beside their intervals and the majority baseline's where these are known.

    Args:
        every: show every metric, not the main one alone.
    """
    table = grid("task", "metric", title="Scores")
    columns: list[Mapping[str, Mapping[str, str]]] = []
    for split, found in scores.items():
        add_number(table, split)
        columns.append(_cells(found, cell))
        if intervals is not None and split in intervals:
            add_number(table, "95 %")
            columns.append(_cells(_with_interval(intervals[split]), interval_cell))
        if split in baselines:
            add_number(table, "majority", style="dim")
            columns.append(_cells(baselines[split], cell))
    shown = {task: chosen_metrics(metrics, every=every) for task, metrics in next(iter(scores.values()), {}).items()}
    for task, metrics in shown.items():
        for index, metric in enumerate(metrics):
            cells = [found.get(task, {}).get(metric, "") for found in columns]
            table.add_row(task if index == 0 else "", metric, *cells)
        table.add_section()
    out.print(table)
    metrics = {metric for listed in shown.values() for metric in listed}
    told = [
        *([_MAJORITY] if not baselines.keys().isdisjoint(scores) else []),
        *([_INTERVAL] if intervals and not intervals.keys().isdisjoint(scores) else []),
        *(text for metric, text in _METRICS.items() if metric in metrics),
    ]
    if told:
        out.print("; ".join(told), soft_wrap=True)


# What a reader may not know, in a line below the table.
_MAJORITY = "majority: what the commonest answer scores, given to every row"
_INTERVAL = "95 %: where the score would lie on other test rows (bootstrap)"
_METRICS = {
    "pearson": "pearson: how far answers go along with the truth, 1 is perfect, 0 is chance, so the majority has none",
    "mae": "mae: mean distance from the truth, less is better",
    "cross_entropy": "cross_entropy: to the distributions that the labels are, less is better",
    "roc_auc": "roc_auc: how often a row with the positive label is given more of it than one without, 0.5 is chance",
    "average_precision": "average_precision: mean precision over the cuts at rows with the positive label",
    "ece": "ece: how far stated probabilities are from the share that is right, less is better",
}


def chosen_metrics(metrics: Iterable[str], *, every: bool) -> list[str]:
    """Return the metrics to show: the first, which is the main one, or all."""
    found = list(metrics)
    return found if every else found[:1]


def _with_interval(intervals: Intervals) -> Intervals:
    return {
        task: {name: interval for name, interval in by.items() if has_interval(name)} for task, by in intervals.items()
    }


_T = TypeVar("_T")


def _cells(by_task: Mapping[str, Mapping[str, _T]], show: Callable[[_T], str]) -> dict[str, dict[str, str]]:
    return {task: {metric: show(value) for metric, value in values.items()} for task, values in by_task.items()}


def show_stages(stages: Sequence[Mapping[str, Any]], out: Console) -> None:
    """Print each task's main dev score after every stage, and what it lost since its own; nothing for one stage."""
    if len(stages) < 2:
        return
    table = grid("task", title="Dev scores after each stage")
    for stage in stages:
        add_number(table, f"after {stage['stage']}")
    add_number(table, "lost since its own")
    own = {stage["stage"]: stage["scores"] for stage in stages}
    for task in stages[0]["scores"]:
        found = [stage["scores"][task] for stage in stages]
        before = own[task][task] if task in own else None
        lost = None if before is None or found[-1] is None else before - found[-1]
        table.add_row(task, *map(cell, found), "" if lost is None else cell(lost))
    out.print(table)


def show_before(
    before: Mapping[str, Scores], after: Mapping[str, Scores], out: Console, *, every: bool = False
) -> None:
    """Print the old tasks' scores before and after an extension; nothing where none was scored."""
    if not before:
        return
    table = grid("task", "metric", title="Old tasks")
    for split in before:
        add_number(table, f"{split} before")
        add_number(table, "after")
    for task, metrics in next(iter(before.values())).items():
        for index, metric in enumerate(chosen_metrics(metrics, every=every)):
            pairs = [(found.get(task, {}).get(metric), after[split].get(task, {}).get(metric))
                     for split, found in before.items()]  # fmt: skip
            table.add_row(task if index == 0 else "", metric, *(cell(value) for pair in pairs for value in pair))
    out.print(table)


def show_answer(text: str, predictions: Mapping[str, Any], out: Console) -> None:
    """Print a text, and below it one line a task: its label with its probability, its number, or its spans."""
    out.print(text, soft_wrap=True)
    width = max(map(len, predictions))
    for task, prediction in predictions.items():
        out.print(f"  {task.ljust(width)}  {prediction_text(prediction)}", soft_wrap=True)


def prediction_text(prediction: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return what a prediction says, without its details."""
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
    """Return as text what `show_assembly` prints."""
    out = PlainConsole(styles=False)
    with out.capture() as captured:
        show_assembly(assembly, out)
    return captured.get()


def row_counts(assembly: Assembly, task: str) -> dict[Split, int]:
    """Return how many rows of each split carry a task's label."""
    return {
        split: sum(len(source.drawn[task]) for source in sources if task in source.tasks)
        for split, sources in assembly.sources.items()
    }


def show_assembly(assembly: Assembly, out: Console) -> None:
    """Print what will run: tasks, rows, labels, lengths, parameters, the plan, and what to know."""
    for table in (_tasks(assembly), _sources(assembly), _labels(assembly)):
        out.print(table)
        out.print()
    count = count_parameters(assembly.model)
    out.print(_parameters(count))
    out.print(f"{count.total:,} in all:")
    out.print(f"  {count.total / count.single:.2f} times those of a model that shares the whole encoder")
    out.print(f"  {count.total / count.apart:.2f} times those of one model a task")
    out.print()
    out.print("What the tasks share:")
    out.print(assembly.model.sharing.picture(), soft_wrap=True)
    out.print()
    out.print(f"When each task trains ({assembly.config.schedule.strategy}):")
    for line in assembly.schedule().describe():
        out.print(f"  {line}", soft_wrap=True)
    out.print(f"What makes one update of the losses: {assembly.config.balance.method}")
    out.print()
    if assembly.choices:
        out.print("What auto became:")
        for choice in assembly.choices:
            line = f"  {choice.option}: {choice.value} ({choice.reason})"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
        out.print()
    if assembly.notes:
        out.print("To know:")
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

    table = grid("split", "tasks", title="Rows that carry a label, and their lengths in tokens")
    for name in ("rows", "median", "95 %", "longest", "truncated"):
        add_number(table, name)
    for split, sources in assembly.sources.items():
        for source in sources:
            found = describe_source(source)
            table.add_row(
                split, ", ".join(source.tasks), str(found["rows"]), f"{found['median']:.0f}", f"{found['p95']:.0f}",
                str(found["longest"]), str(found["truncated"]),
            )  # fmt: skip
    return table


def _kind(task: Task) -> str:
    """Say what stands in place of labels."""
    return (
        "-" if not task.answers else "vector" if task.gives_vectors else "options" if task.options_column else "number"
    )


def _labels(assembly: Assembly) -> Table:
    table = grid("task", "labels", title="Labels in training (share of rows; for tags, of words)")
    for name, task in assembly.tasks.items():
        stats = next(found.label_stats[name] for found in assembly.tables.tables["train"] if name in found.label_stats)
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
