"""The page of a search: the answer first, then the tasks, then what was tried and what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polytask.page.block import (
    Block,
    Cell,
    Code,
    Link,
    Listed,
    Mark,
    Missing,
    Page,
    Section,
    TableBlock,
    TextBlock,
    drawn,
    interval,
    number,
    signed,
)
from polytask.page.chart import Dot, Point, forest, scatter_chart
from polytask.page.form import AutoForm, TriedForm
from polytask.page.reading import read, read_text
from polytask.terminal import duration

STEPS = {
    "lora": "low-rank parts of its own in the upper half, all else frozen",
    "own_third": "a copy of the upper third of the layers, all else frozen",
    "own_half": "a copy of the upper half of the layers, all else frozen",
    "branch": "a copy of the upper third, and all tasks train on",
    "graft": "its own model as a trunk beside the shared one",
}


def auto_page(folder: Path) -> Page:
    """Return the page."""
    found = read(folder, "auto.json", AutoForm)
    title = f"Search {folder.resolve().name}"
    if found.value is None:
        lead = Missing(
            f"this search is not finished, or was altered: {found.problem} Start the same command again to go on."
        )
        return Page(title, "The best plan within a budget", [lead])
    value = found.value
    sections = [
        Section("Each task", list(_tasks(value))),
        Section("Size against the worst task", list(_frontier(value))),
        Section("The ladder", list(_ladder(value))),
        Section("What was tried", list(_tried(folder, value))),
        Section("Learning rates", list(_rates(value))),
        Section("What it cost", list(_cost(value))),
        Section("The joint model as a configuration", list(_config(folder))),
    ]
    kind = f"The best plan within a budget: {len(value.tasks)} tasks, {_rated(len(value.candidates))}"
    return Page(title, kind, list(_lead(value)), sections)


def _rated(count: int) -> str:
    return f"{count} joint {'model' if count == 1 else 'models'} rated"


def _lead(value: AutoForm) -> Iterator[Block]:
    yield TextBlock(value.answer or "auto.json holds no answer.")
    yield Listed([f"{task.sentence}." for task in value.tasks.values()])
    speeds = value.rows_per_second
    shipped, single = speeds.get("shipped"), speeds.get("single")
    if shipped and single:
        yield TextBlock(
            f"It answers {_speed(shipped)} texts a second for all of their tasks, one model a task {_speed(single)} "
            f"({shipped / single:.2f} times as many), on the machine and the rows of this search."
        )
    if value.notes:
        yield Listed(value.notes)


def _speed(rows: float) -> str:
    return f"{rows:.1f}" if rows < 100 else f"{rows:,.0f}"


def _tasks(value: AutoForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for name, task in value.tasks.items():
        mark = Mark("below the floor", "bad") if task.below_floor else Mark("above the floor", "good")
        rows.append(
            [
                name,
                task.how,
                mark,
                f"{task.metric} ({task.split})",
                number(task.single),
                number(task.winner),
                number(task.score),
                signed(task.delta),
                interval(task.low, task.high, sign=True),
            ]
        )
    columns = ["task", "how", "dev", "metric", "own model", "joint model", "shipped", "difference", "95 % interval"]
    yield TableBlock("Scores, each on rows that chose nothing", columns, rows, words=4)
    dots = [
        Dot(
            name, task.delta, signed(task.delta, 3), task.low, task.high, None,
            task.low is not None and task.high is not None and (task.low > 0 or task.high < 0),
        )
        for name, task in value.tasks.items()
    ]  # fmt: skip
    floor = value.options.get("floor")
    lines = [(0.0, "its own model")]
    lines += [(-floor / 100, f"floor: {floor:g} points below")] if isinstance(floor, int | float) and floor else []
    chart = forest("shipped against each task's own model", dots, lines=lines)
    yield chart or Missing("no difference is a number.")
    told = f" The floor is what a task may lose against its own model: {floor:g} points." if lines[1:] else ""
    yield TextBlock(
        f"Differences of scores with their 95 % intervals over rows, one seed; hollow where there may be none.{told}"
    )


def _frontier(value: AutoForm) -> Iterator[Block]:
    whole = [one for one in value.candidates if one.share == 1]
    points = [Point(one.name, one.size, _points(one.worst), one.name == value.winner) for one in whole]
    worst = min((task.dev.delta for task in value.tasks.values() if task.dev.delta is not None), default=None)
    singles = value.singles.get("size")
    points.append(Point("shipped", value.size, _points(worst), True, 1))
    points.append(Point("one model a task", singles, 0.0, False, 2))
    floor = value.options.get("floor")
    line = (-floor, "floor") if isinstance(floor, int | float) else None
    yield drawn(
        [scatter_chart("size and the worst task", points, x="size (1: one shared encoder)", y="points", line=line)],
        "no candidate was trained whole.",
        "Each point is a model that was trained whole: its parameters, and its worst task against that task's own "
        "model, in points on dev rows. The line is the frontier: no smaller model is as good as those on it.",
    )


def _points(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _ladder(value: AutoForm) -> Iterator[Block]:
    if not value.ladder:
        yield TextBlock("No task of the best joint model lay below the floor on dev rows, so nothing was lifted.")
        return
    rows: list[list[Cell]] = []
    for one in value.ladder:
        outcome = Mark("lifts it", "good") if one.lifts else Mark("not taken" if one.why else "does not", "open")
        told = one.why or ("" if one.dev is None else f"{_signed(one.dev.delta)} points on dev")
        cells = map(_two, (one.size, one.passes, one.cost))
        rows.append([one.task, one.step.replace("_", " "), outcome, told, *cells])
    columns = ["task", "step", "outcome", "why", "size", "passes", "trainings"]
    yield TableBlock("Steps for the tasks below the floor, the cheapest first", columns, rows, words=4)
    taken = dict.fromkeys(one.step for one in value.ladder)
    yield Listed([f"{step.replace('_', ' ')}: {STEPS[step]}" for step in taken if step in STEPS])


def _tried(folder: Path, value: AutoForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for one in value.candidates:
        name: Cell = Mark(one.name, "good") if one.name == value.winner and one.share == 1 else one.name
        cells = [_share(one.share), _signed(one.worst), _signed(one.mean)]
        cells += [_signed(one.deltas.get(task)) for task in value.tasks]
        changed = one.failed or ", ".join(one.changes)
        rows.append([name, _link(folder, one), changed, *cells, _two(one.size), _two(one.passes)])
    columns = [
        "candidate",
        "run",
        "what it changes",
        "of a training",
        "worst task",
        "mean",
        *value.tasks,
        "size",
        "passes",
    ]
    yield TableBlock(
        "Points against the single models at the same share of the budget, dev rows", columns, rows, words=3
    )


def _link(folder: Path, one: TriedForm) -> Cell:
    page = f"{one.run.rstrip('/')}/report.html"
    return Link(one.run, page if (folder / page).is_file() else one.run) if one.run else ""


def _rates(value: AutoForm) -> Iterator[Block]:
    if not value.rates:
        yield TextBlock("The budget left no room to compare learning rates; the configuration's own were used.")
        return
    factors = sorted({factor for one in value.rates for factor in one.scores}, key=float)
    rows = [
        [one.of or "joint (mean difference)", *(number(one.scores.get(factor)) for factor in factors), _two(one.chosen)]
        for one in value.rates
    ]
    columns = ["model", *(f"x {factor}" for factor in factors), "chosen"]
    yield TableBlock("Dev scores under multiples of the configuration's learning rates", columns, rows)


def _cost(value: AutoForm) -> Iterator[Block]:
    one = value.seconds_of_one_training
    hours = None if one is None or value.spent is None else one * value.spent
    rows = [
        ["budget, in trainings of the configuration", _two(value.budget)],
        ["spent", _two(value.spent)],
        ["one training", duration(one)],
        ["all of them", duration(hours)],
    ]
    yield TableBlock("The cost of the search", ["measure", "value"], rows)


def _config(folder: Path) -> Iterator[Block]:
    text = read_text(folder, "config.yaml")
    if text is None:
        yield Missing("config.yaml is not in the folder.")
        return
    yield Code("config.yaml, which trains the joint model again", text.rstrip())


def _share(value: float | None) -> str:
    return "" if value is None else "whole" if value == 1 else f"1/{1 / value:.3g}"


def _signed(value: float | None) -> str:
    """Write a difference in points."""
    return "" if value is None else signed(100 * value, 1)


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
