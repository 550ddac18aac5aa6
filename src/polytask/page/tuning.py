"""The page of a hyper-parameter search: the best configuration, the importance of options, and all trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from polytask.page.block import (
    Banner,
    Block,
    BulletList,
    Cell,
    Code,
    Details,
    Forest,
    Link,
    MissingNote,
    Page,
    Section,
    TableBlock,
    TextBlock,
    drawn,
    ordered,
)
from polytask.page.chart import Dot, Line, forest, line_chart
from polytask.page.folder import RULES
from polytask.page.form import Form, Number, Scores, SelectionForm
from polytask.page.reading import read, read_text
from polytask.page.unfinished import unfinished
from polytask.page.wording import interval, number, points
from polytask.terminal import duration

# Maximum number of trials in the table; tune.json contains all.
MOST_ROWS = 200


class TrialForm(Form):
    """A trial of tune.json."""

    trial: int
    state: str
    value: Number = None
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    seconds: Number = None
    reason: str | None = None
    run: str | None = None


class BestForm(Form):
    """The best trial."""

    trial: int
    value: Number = None
    parameters: dict[str, Any] = Field(default_factory=dict[str, Any])
    dev: Scores = Field(default_factory=dict[str, dict[str, Number]])


class TestRowsForm(Form):
    """Test scores of the best model, or the reason why there are none."""

    scores: Scores = Field(default_factory=dict[str, dict[str, Number]])
    intervals: dict[str, dict[str, tuple[float, float] | None]] = Field(
        default_factory=dict[str, dict[str, tuple[float, float] | None]]
    )
    problem: str | None = None


class TuningForm(Form):
    """tune.json."""

    best: BestForm
    trials: list[TrialForm]
    search: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    selection: SelectionForm | None = None
    as_it_is: Number = None
    importance: dict[str, Number] | None = None
    test: TestRowsForm | None = None
    notes: list[str] = Field(default_factory=list[str])


def tuning_page(folder: Path) -> Page:
    """Return the page of a tuning folder."""
    title = f"Search {folder.resolve().name}"
    record = read(folder, "tune.json", TuningForm)
    if record.value is None:
        sections = [Section("The trials so far", list(_runs_in(folder)))]
        return Page(
            title, "Hyper-parameter search", [unfinished(folder, "search", "tune.json", record.problem)], sections
        )
    value = record.value
    sections = [
        Section("Scores of the best trial", list(_scores(value))),
        Section("Importance of the options", list(_importance(value))),
        Section("Course of the search", [_course(value)]),
        Section("Each option", list(_options(value))),
        Section("Trials", list(_trials(folder, value))),
        Section("The best configuration", list(_best(folder)), folded=True, hint="best.yaml"),
    ]
    return Page(title, f"The best of {len(value.trials)} trials", list(_lead(value)), ordered(sections))


def _lead(value: TuningForm) -> Iterator[Block]:
    rule = value.selection.rule if value.selection is not None else ""
    by = f" by {RULES.get(rule, f'the dev score of {rule}')}" if rule else ""
    best = value.best
    explanation = f"Trial {best.trial} is the best{by}: {number(best.value)}."
    if best.trial == 0:
        explanation += " It is the original configuration."
    elif value.as_it_is is not None and best.value is not None:
        apart = points(best.value - value.as_it_is)
        explanation += (
            f" The original configuration (trial 0) has {number(value.as_it_is)}: a difference of {apart} points."
        )
    chosen = ", ".join(f"{path}: {_shown(setting)}" for path, setting in best.parameters.items())
    yield Banner("The best configuration", chosen or "The original configuration", explanation)
    if value.notes:
        yield BulletList(value.notes)


def _scores(value: TuningForm) -> Iterator[Block]:
    test = value.test
    if test is not None and test.problem is not None:
        yield MissingNote(test.problem)
    rows = [
        ["" if place else task, metric, number(score, 3), _test_cell(test, task, metric)]
        for task, metrics in value.best.dev.items()
        for place, (metric, score) in enumerate(metrics.items())
    ]
    tested = test is not None and bool(test.scores)
    caption = "On dev, used for the selection"
    if tested:
        caption += ", and on test (with the 95 % interval), where no other model was scored"
    columns = ["task", "metric", "dev", "test"][: 4 if tested else 3]
    shown_rows = [row[: len(columns)] for row in rows]
    main = [row for row in shown_rows if row[0]]  # the main metric of a task is its first one
    yield TableBlock(f"Main metrics. {caption}", columns, main, words=2)
    if len(shown_rows) > len(main):
        yield Details("All metrics", [TableBlock("All metrics", columns, shown_rows, words=2)])


def _test_cell(test: TestRowsForm | None, task: str, metric: str) -> str:
    task_scores = {} if test is None else test.scores.get(task, {})
    if test is None or metric not in task_scores:
        return ""
    limits = test.intervals.get(task, {}).get(metric)
    return number(task_scores[metric], 3) + (f" ({interval(*limits, digits=2)})" if limits else "")


def _importance(value: TuningForm) -> Iterator[Block]:
    ranked = sorted((value.importance or {}).items(), key=lambda item: -(item[1] or 0.0))
    dots = [Dot(path, share, number(share, 2)) for path, share in ranked]
    yield forest("importance", dots, lines=[(0.0, "nothing")]) or MissingNote(
        "the importance of the options is unknown: too few trials are complete, or all have the same value."
    )
    yield TextBlock(
        "The fraction of the variance between complete trials that an option explains, alone and with others "
        "(functional ANOVA on a random forest, Hutter et al. 2014). It applies to the searched ranges only, and "
        "is unreliable for few trials."
    )


def _course(value: TuningForm) -> Block:
    complete = [(trial.trial, trial.value) for trial in value.trials if trial.state == "complete"]
    best: list[tuple[float, float | None]] = []
    for trial, rated in complete:
        values = [candidate for candidate in (rated, best[-1][1] if best else None) if candidate is not None]
        best.append((trial, max(values, default=None)))
    lines = [Line("best so far", best), Line("complete", [*complete])]
    return drawn(
        [line_chart("dev value by trial", lines, x="trial")],
        "no trial is complete.",
        "Complete trials in the order of their start. Trials that were stopped early are left out.",
    )


def _options(value: TuningForm) -> Iterator[Block]:
    charts = [chart for path in value.search if (chart := _option_chart(path, value)) is not None]
    if not charts:
        yield MissingNote("no trial is complete.")
        return
    yield from charts
    yield TextBlock("The value of each complete trial by its setting, in the order of the option; the best is filled.")


def _option_chart(path: str, value: TuningForm) -> Forest | None:
    complete = [trial for trial in value.trials if trial.state == "complete" and path in trial.parameters]
    in_order = sorted(complete, key=lambda trial: _order(trial.parameters[path]))
    dots = [
        Dot(
            f"{_shown(trial.parameters[path])} (trial {trial.trial})", trial.value, number(trial.value),
            apart=trial.trial == value.best.trial,
        )
        for trial in _thinned(in_order, value.best.trial)
    ]  # fmt: skip
    return forest(path, dots)


def _thinned(trials: Sequence[TrialForm], best: int, most: int = 24) -> list[TrialForm]:
    """Return at most this many trials, evenly spaced, including the best one."""
    if len(trials) <= most:
        return list(trials)
    last = len(trials) - 1
    places = {round(index * last / (most - 1)) for index in range(most)}
    return [trial for place, trial in enumerate(trials) if place in places or trial.trial == best]


def _order(value: Any) -> tuple[int, float, str]:  # noqa: ANN401
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def _trials(folder: Path, value: TuningForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for trial in value.trials[:MOST_ROWS]:
        there = trial.run is not None and (folder / trial.run).is_dir()
        name: Cell = Link(str(trial.trial), trial.run or "") if there else str(trial.trial)
        parameters = [_shown(trial.parameters.get(path)) for path in value.search]
        rated = "" if trial.value is None else number(trial.value)
        rows.append([name, trial.state, *parameters, rated, duration(trial.seconds)])
    yield TableBlock(
        "Every trial", ["trial", "state", *value.search, "value", "time"], rows, words=2 + len(value.search)
    )
    if len(value.trials) > MOST_ROWS:
        yield TextBlock(f"{len(value.trials) - MOST_ROWS} more trials are in tune.json.")
    reasons = [f"Trial {trial.trial}: {trial.reason}" for trial in value.trials[:MOST_ROWS] if trial.reason]
    if reasons:
        yield TextBlock("Trials that were stopped early:")
        yield BulletList(reasons)


def _best(folder: Path) -> Iterator[Block]:
    text = read_text(folder, "best.yaml")
    if text is None:
        yield MissingNote("best.yaml is not in the folder.")
    else:
        yield Code("best.yaml, to train again: polytask train best.yaml --out RUN", text)


def _runs_in(folder: Path) -> Iterator[Block]:
    try:
        names = sorted(item.name for item in (folder / "trials").iterdir() if item.is_dir())
    except OSError:
        names = []
    if names:
        yield BulletList([Link(f"trials/{name}", f"trials/{name}") for name in names])
    else:
        yield MissingNote("no trial has been started.")


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, float):
        return f"{value:g}"
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
