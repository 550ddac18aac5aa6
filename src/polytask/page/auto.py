"""The page of a search: the result first, then the tasks, the candidates and the costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polytask.page.block import (
    Banner,
    Block,
    BulletList,
    Card,
    Cards,
    Cell,
    Code,
    Details,
    Link,
    Mark,
    MissingNote,
    Page,
    Section,
    TableBlock,
    TextBlock,
    drawn,
    ordered,
)
from polytask.page.chart import Dot, Point, forest, scatter_chart
from polytask.page.reading import read, read_text
from polytask.page.search_form import AutoForm, AutoTaskForm, TriedForm
from polytask.page.unfinished import unfinished
from polytask.page.wording import in_points, number, points, points_interval
from polytask.terminal import duration

STEPS = {
    "lora": "own low-rank parts in the upper half, everything else frozen",
    "own_third": "a copy of the upper third of the layers, everything else frozen",
    "own_half": "a copy of the upper half of the layers, everything else frozen",
    "branch": "a copy of the upper third, and all tasks continue training",
    "graft": "its single model as a second trunk",
}

# What is said of a step, by whether it lifts the task, and whether it was kept.
OUTCOMES = {
    (True, True): Mark("lifts it", "good"),
    (True, False): Mark("lifts it, not kept", "open"),
    (False, True): Mark("nearest, kept", "open"),
    (False, False): Mark("does not", "open"),
}


def auto_page(folder: Path) -> Page:
    """Return the page of a search folder."""
    record = read(folder, "auto.json", AutoForm)
    title = f"Search {folder.resolve().name}"
    if record.value is None:
        lead = unfinished(folder, "search", "auto.json", record.problem)
        return Page(title, "The best plan within a budget", [lead])
    value = record.value
    tried = sum(not item.why for item in value.ladder)
    steps = f"{tried} of {len(value.ladder)} steps tried" if value.ladder else "no task had to be lifted"
    sections = [
        Section("Each task compared with its own model", list(_tasks(value))),
        Section("Size and worst task", list(_frontier(value))),
        Section("The ladder", list(_ladder(value)), folded=True, hint=steps),
        Section("What was tried", list(_tried(folder, value)), folded=True, hint=_rated(len(value.candidates))),
        Section("Learning rates", list(_rates(value)), folded=True, hint="multiples of each model's own"),
        Section("What it cost", list(_cost(value)), folded=True, hint=_spent(value)),
        Section("The joint model as a configuration", list(_config(folder)), folded=True, hint="config.yaml"),
    ]
    kind = f"The best plan within a budget: {len(value.tasks)} tasks, {_rated(len(value.candidates))}"
    return Page(title, kind, list(_lead(value)), ordered(sections))


def _rated(count: int) -> str:
    return f"{count} joint {'model' if count == 1 else 'models'} rated"


def _spent(value: AutoForm) -> str:
    return "" if value.spent is None or value.budget is None else f"{value.spent:.1f} of {value.budget:.1f} trainings"


def _lead(value: AutoForm) -> Iterator[Block]:
    if value.answer:
        title, _, standing = value.answer.partition("; ")
        low = any(task.below_floor or not task.judged for task in value.tasks.values())
        standing = standing[:1].upper() + standing[1:]
        yield Banner("The best plan within the budget and the limits", title, standing, "open" if low else "good")
    else:
        yield MissingNote("auto.json holds no answer.")
    yield Cards([_card(name, task, _floor(value)) for name, task in value.tasks.items()])
    speeds = value.rows_per_second
    shipped, single = speeds.get("shipped"), speeds.get("single")
    if shipped and single:
        yield TextBlock(
            f"It predicts {_speed(shipped)} texts per second for all tasks, and one model per task {_speed(single)} "
            f"(a factor of {shipped / single:.2f}), on the machine and rows of this search."
        )
    if value.notes:
        yield BulletList(value.notes)


def _floor(value: AutoForm) -> float | None:
    floor = value.options.get("floor")
    return floor if isinstance(floor, int | float) else None


def _standing(task: AutoTaskForm, floor: float | None) -> Mark:
    """Return whether a task lies above the floor, judging by dev rows."""
    if not task.judged:
        return Mark("cannot be judged", "part")
    if not task.below_floor:
        return Mark("above the floor", "good")
    delta = task.dev.delta
    if floor is not None and delta is not None and delta >= -floor / 100:
        return Mark("not surely above the floor", "part")
    return Mark("below the floor", "bad")


def _card(name: str, task: AutoTaskForm, floor: float | None) -> Card:
    """Return the card of a task, with its score and that of its single model."""
    standing = _standing(task, floor)
    facts = [f"own model {number(task.single, 2)}; {points(task.delta)} points"]
    if task.low is not None and task.high is not None and task.low < task.high:
        facts.append(f"95 % interval {points_interval(task.low, task.high)}")
    needs = f"; {task.would_need}" if task.would_need else ""
    likely = f", {task.likelihood}" if task.likelihood and task.likelihood != "exact" else ""
    same = "the same " if task.split == "dev" else ""
    standing_text = f"{standing.text} on {same}{task.judged_by}{likely if standing.tone == 'good' else ''}"
    behind = standing.tone == "good" and task.split == "test" and task.high is not None and task.high < 0
    sentence = f"{task.how}; {standing_text}{f', and behind its own model on {task.split}' if behind else ''}{needs}."
    metric = f"{task.metric} on {'dev rows, which made every choice' if task.split == 'dev' else task.split}"
    tone = "part" if behind else standing.tone
    if task.single_learned is False:
        facts.append("its own model is no better than the majority baseline")
        tone = "open" if tone == "good" else tone
    return Card(name, metric, number(task.score, 2), facts, sentence[:1].upper() + sentence[1:], tone)


def _speed(rows: float) -> str:
    return f"{rows:.1f}" if rows < 100 else f"{rows:,.0f}"


def _tasks(value: AutoForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for name, task in value.tasks.items():
        scores = map(number, (task.score, task.single, task.winner))
        span = points_interval(task.low, task.high)
        metric = f"{task.metric} ({task.split})"
        standing = _standing(task, _floor(value))
        rows.append([name, metric, *scores, points(task.delta), span, standing, task.likelihood, task.how])
    dots = [
        Dot(
            name, in_points(task.delta), points(task.delta), in_points(task.low), in_points(task.high), None,
            task.low is not None and task.high is not None and (task.low > 0 or task.high < 0),
        )
        for name, task in value.tasks.items()
    ]  # fmt: skip
    floor = _floor(value)
    lines = [(0.0, "its own model")]
    lines += [(-floor, f"floor: {floor:g} points below")] if floor else []
    chart = forest("shipped model minus each task's own model, points", dots, lines=lines)
    yield chart or MissingNote("no difference is defined.")
    floor_text = (
        f" The floor is the loss that a task may have against its own model: {floor:g} points." if lines[1:] else ""
    )
    on_dev = [name for name, task in value.tasks.items() if task.split == "dev"]
    dev_text = (
        f" {', '.join(on_dev)}: without test rows, so on dev rows; these made every choice, and are optimistic."
        if on_dev
        else ""
    )
    yield TextBlock(
        "Differences of scores in points with their 95 % intervals over rows, one seed; hollow if the interval "
        f"contains zero.{floor_text}{dev_text}"
    )
    columns = [
        "task",
        "metric",
        "shipped",
        "own model",
        "joint model",
        "points",
        "95 % interval",
        "floor",
        "above it",
        "how",
    ]
    title = "Scores on test rows, which were not used for any choice"
    if on_dev:
        optimistic = "dev rows, which made every choice, so they are optimistic"
        title = f"Scores on {optimistic}"
        if len(on_dev) < len(value.tasks):
            title = f"Scores on test rows, which were not used for any choice, or (dev) on {optimistic}"
    yield Details("All figures", [TableBlock(title, columns, rows, words=len(columns), wide=True)])


def _frontier(value: AutoForm) -> Iterator[Block]:
    whole = [item for item in value.candidates if item.share == 1]
    marks = [Point(item.name, item.size, in_points(item.worst), item.name == value.winner) for item in whole]
    deltas = [task.dev.delta for task in value.tasks.values() if task.judged]
    defined = [delta for delta in deltas if delta is not None]
    worst = min(defined) if defined and len(defined) == len(deltas) else None
    singles = value.singles.get("size")
    marks.append(Point("shipped", value.size, in_points(worst), True, 1))
    marks.append(Point("single models", singles, 0.0, False, 2))
    floor = _floor(value)
    line = (-floor, "floor") if floor is not None else None
    unjudged = _unjudged(value)
    left_out = f" Without {', '.join(unjudged)}, which cannot be judged." if unjudged else ""
    yield drawn(
        [scatter_chart("size and the worst task", marks, x="size (1: one shared encoder)", y="points", line=line)],
        "no candidate had a whole run.",
        "Each point is a model with a whole run: its parameters, and its worst difference to a task's own "
        "model, in points on dev rows. The line is the frontier: no smaller model is as good as those on it."
        f"{left_out}",
    )


def _unjudged(value: AutoForm) -> list[str]:
    return [name for name, task in value.tasks.items() if not task.judged]


def _ladder(value: AutoForm) -> Iterator[Block]:
    unjudged = _unjudged(value)
    if not value.ladder:
        rest = f" No step was tried for {', '.join(unjudged)}: it cannot be judged." if unjudged else ""
        yield TextBlock(
            f"No task of the best joint model was below the floor on dev rows, so no step was needed.{rest}"
        )
        return
    rows: list[list[Cell]] = []
    for item in value.ladder:
        outcome = Mark("not taken", "open") if item.why else OUTCOMES[item.lifts, item.taken]
        detail = item.why or ("" if item.dev is None else f"{points(item.dev.delta)} points on dev")
        if item.trained_further:
            also = "also " if item.taken else ""
            detail += f"; {also}kept for {', '.join(item.trained_further)}, trained further in it"
        cells = map(_two, (item.size, item.passes, item.cost))
        rows.append([item.task, item.step.replace("_", " "), outcome, *cells, detail])
    columns = ["task", "step", "outcome", "size", "passes", "trainings", "why"]
    title = "Steps for the tasks that were not surely above the floor, in the order in which they were tried"
    yield TableBlock(title, columns, rows, words=len(columns), wide=True)
    taken = dict.fromkeys(item.step for item in value.ladder)
    yield BulletList([f"{step.replace('_', ' ')}: {STEPS[step]}" for step in taken if step in STEPS])


def _tried(folder: Path, value: AutoForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for item in value.candidates:
        name: Cell = Mark(item.name, "good") if item.name == value.winner and item.share == 1 else item.name
        cells = [_share(item.share), _signed(item.worst), _signed(item.mean)]
        cells += [_signed(item.deltas.get(task)) for task in value.tasks]
        changed = item.failed or ", ".join(item.changes)
        rows.append([name, *cells, _two(item.size), _two(item.passes), _link(folder, item), changed])
    columns = ["candidate", "of a training", "worst task", "mean", *value.tasks, "size", "passes", "run", "changes"]
    title = "Points relative to the single models at the same share of the budget, dev rows"
    yield TableBlock(title, columns, rows, words=len(columns), wide=True)


def _link(folder: Path, trial: TriedForm) -> Cell:
    page = f"{trial.run.rstrip('/')}/report.html"
    return Link(trial.run, page if (folder / page).is_file() else trial.run) if trial.run else ""


def _rates(value: AutoForm) -> Iterator[Block]:
    if not value.rates:
        return  # not within the budget, so the configuration's rates were used
    factors = sorted({factor for item in value.rates for factor in item.scores}, key=float)
    rows = [
        [
            item.of or "joint (mean difference)",
            *(number(item.scores.get(factor)) for factor in factors),
            _two(item.chosen),
        ]
        for item in value.rates
    ]
    columns = ["model", *(f"x {factor}" for factor in factors), "chosen"]
    yield TableBlock(
        "Dev scores with multiples of the learning rates that each model has without a search", columns, rows
    )


def _cost(value: AutoForm) -> Iterator[Block]:
    seconds = value.seconds_of_one_training
    hours = None if seconds is None or value.spent is None else seconds * value.spent
    rows = [
        ["budget, in trainings of the configuration", _two(value.budget)],
        ["spent", _two(value.spent)],
        ["one training", duration(seconds)],
        ["all of them", duration(hours)],
    ]
    yield TableBlock("The cost of the search", ["measure", "value"], rows)


def _config(folder: Path) -> Iterator[Block]:
    text = read_text(folder, "config.yaml")
    if text is None:
        yield MissingNote("config.yaml is not in the folder.")
        return
    yield Code("config.yaml, to train the joint model again", text.rstrip())


def _share(value: float | None) -> str:
    return "" if value is None else "whole" if value == 1 else f"1/{1 / value:.3g}"


def _signed(value: float | None) -> str:
    """Format a difference in points; empty if unknown."""
    return "" if value is None else points(value)


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
