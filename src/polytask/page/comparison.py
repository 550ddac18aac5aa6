"""The page of a comparison: whether sharing paid off, task by task and arm by arm."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from polytask.arm_tables import score_text
from polytask.page.arm_table import arm_table
from polytask.page.block import (
    Banner,
    Block,
    BulletList,
    Cell,
    Code,
    Forest,
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
from polytask.page.chart import Dot, forest
from polytask.page.reading import read, read_text
from polytask.page.relatedness import task_matrix
from polytask.page.search_form import ComparisonForm, ExampleForm, VerdictForm
from polytask.page.unfinished import unfinished
from polytask.page.wording import answer, count, in_points, isolated, placed, points, points_interval, sentence, signed
from polytask.terminal import duration

# What a verdict is called, and how it looks.
VERDICTS = {
    "share": ("share", "good"),
    "share_partly": ("share partly", "part"),
    "keep_apart": ("keep apart", "bad"),
    "cannot_tell": ("cannot tell", "open"),
}
# What the arms that have no overrides are.
ARMS = {
    "single": "one model a task, by itself",
    "global": "all tasks share the whole encoder",
    "config": "the configuration as it is",
    "independent": "one run for all tasks, which share nothing",
    "pairs": "two tasks at a time share the whole encoder",
    "distill": "the configuration, taught by the single models",
}
SHOWN = 8  # examples a task and side
OPEN_RUNS = 12  # a longer list is folded


def comparison_page(folder: Path) -> Page:
    """Return the page."""
    found = read(folder, "comparison.json", ComparisonForm)
    title = f"Comparison {folder.resolve().name}"
    if found.value is None:
        lead = unfinished(folder, "comparison", "comparison.json", found.problem)
        return Page(title, "Did sharing pay off", [lead], [Section("Runs", list(_runs_in(folder)))])
    value = found.value
    sections = [
        Section("Verdicts", list(_verdicts(value))),
        Section("Scores of every arm", list(arm_table(value))),
        Section("Differences to single models", list(_differences(value))),
        Section("What an arm costs", list(_costs(value))),
        Section("Runs", list(_runs(folder, value)), _number_of_runs(value) > OPEN_RUNS, "their reports"),
        Section("Each seed", list(_scores(value)), folded=True, hint="all figures of every arm"),
        Section("Transfer between tasks", list(_transfer(value)), folded=True, hint="how tasks change each other"),
        Section("Rows that sharing fixed and broke", list(_examples(value)), folded=True, hint=_rows_of(value)),
        Section("To repeat the comparison", list(_repeat(folder, value)), folded=True, hint="command, configuration"),
    ]
    kind = f"Did sharing pay off: {len(value.tasks)} tasks, {len(value.arms)} arms, {len(value.seeds)} seeds"
    if value.folds:
        kind += f", {value.folds} folds of the training rows"
    return Page(title, kind, list(_lead(value)), ordered(sections))


def _lead(value: ComparisonForm) -> Iterator[Block]:
    if value.recommended:
        told = ARMS.get(value.recommended, ", ".join(getattr(value.arms.get(value.recommended), "overrides", [])))
        title = f"Recommended: {value.recommended}" + (f" ({told})" if told else "")
        reason = "" if not value.reason else f"{sentence(value.reason.rstrip('.'))}."
        unsure = sum(found.verdict == "cannot_tell" for found in value.tasks.values())
        if unsure:
            reason += f" For {unsure} of {len(value.tasks)} tasks the comparison cannot tell whether sharing pays."
        yield Banner("Did sharing pay off?", title, reason)
    else:
        yield MissingNote("comparison.json recommends no arm.")
    if value.notes:
        yield BulletList(value.notes)


def _verdicts(value: ComparisonForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for task, found in value.tasks.items():
        name, tone = VERDICTS.get(found.verdict or "", (found.verdict or "none", "open"))
        why = sentence((found.sentence or "").removeprefix(f"{name}: "))
        rows.append([task, Mark(name, tone), _what_to_do(found, value), why])
    yield TableBlock("Each task", ["task", "verdict", "what to do", "why"], rows, words=4, wide=True)
    if value.floor is not None:
        yield TextBlock(
            f"An arm is recommended only if no task lies more than {value.floor:g} points (hundredths) below single "
            "models, beyond noise."
        )


def _what_to_do(verdict: VerdictForm, value: ComparisonForm) -> str:
    """Say what to do about a verdict."""
    if verdict.verdict == "share":
        return "Train it together with the others."
    if verdict.verdict == "share_partly":
        arm = re.match(r"share partly: with (.+?), ", verdict.sentence or "")
        return f"Train it together, as {arm[1]} does." if arm else "Train it together, with another arm."
    if verdict.verdict == "keep_apart":
        return "Give it a model of its own."
    needed = verdict.needed
    ways: list[str] = []
    if needed is not None and needed.seeds is not None:
        ways.append(f"start the same command with --seeds {needed.seeds} (now {len(value.seeds)})")
    if needed is not None and needed.rows is not None:
        now = "" if verdict.rows is None else f" (now {verdict.rows})"
        ways.append(f"label {_rows_of(value)} until there are {needed.rows}{now}")
        if not value.folds:
            ways.append("add --folds 5, which compares on all training rows")
    if not ways:
        return (
            f"Train longer or with more rows and compare again: more seeds or {_rows_of(value)} alone would not tell."
        )
    return f"{sentence('; or '.join(ways))}."


def _rows_of(value: ComparisonForm) -> str:
    """Say what the rows are that the arms are compared on."""
    return "training rows" if value.folds else "test rows"


def _differences(value: ComparisonForm) -> Iterator[Block]:
    floor = [] if value.floor is None else [(-value.floor, f"floor: {value.floor:g} points below")]
    alike = [task for task, found in value.tasks.items() if _are_alike(found)]
    drawings = [_difference_chart(task, found, floor) for task, found in value.tasks.items() if task not in alike]
    shown = [drawing for drawing in drawings if drawing is not None]
    if alike:
        yield TextBlock(f"No arm scores otherwise than single models: {', '.join(map(isolated, alike))}.")
    if not shown:
        yield MissingNote("no difference is a number other than 0.")
        return
    yield from shown
    yield TextBlock(
        f"Difference of an arm's score to single models in points, with its {100 * value.level:g} % interval; more is "
        "better. The solid line is no difference, the dashed one the floor. A dot is hollow where its interval holds "
        "no difference, and filled elsewhere."
    )


def _are_alike(verdict: VerdictForm) -> bool:
    """Whether every arm scores as single models do, on every row drawn anew."""
    scores = [score for arm, score in verdict.arms.items() if arm != "single"]
    return bool(scores) and all((score.delta, score.low, score.high) == (0, 0, 0) for score in scores)


def _difference_chart(task: str, verdict: VerdictForm, floor: list[tuple[float, str]]) -> Forest | None:
    dots: list[Dot] = []
    for arm, score in verdict.arms.items():
        if arm == "single":
            continue
        apart = score.low is not None and score.high is not None and (score.low > 0 or score.high < 0)
        span = points_interval(score.low, score.high)
        shown = f"{points(score.delta)}  ({span})" if span else points(score.delta)
        delta, low, high = map(in_points, (score.delta, score.low, score.high))
        dots.append(Dot(arm, delta, shown, low, high, None, apart))
    return forest(f"{task}: {verdict.metric}, points", dots, lines=[(0.0, "no difference"), *floor])


def _scores(value: ComparisonForm) -> Iterator[Block]:
    for task, found in value.tasks.items():
        rows: list[list[str]] = []
        for arm, score in found.arms.items():
            relative = "" if score.relative is None else f"{signed(100 * score.relative, 1)} %"
            mean, spread, *seeds = (
                _score(found.metric, one) for one in (score.mean, score.std, *score.values)
            )  # fmt: skip
            apart = "" if arm == "single" else points(score.delta)
            rows.append(
                [arm, mean, spread, apart, points_interval(score.low, score.high), relative, "  ".join(seeds)]
            )  # fmt: skip
        columns = ["arm", "mean", "spread", "difference", f"{100 * value.level:g} % interval", "relative", "each seed"]
        yield TableBlock(f"{task}: {found.metric}, in points (errors in their unit)", columns, rows)


def _score(metric: str, value: float | None) -> str:
    return "" if value is None else score_text(metric, value).replace("-", "\u2212")


def _costs(value: ComparisonForm) -> Iterator[Block]:
    if not value.arms:
        yield MissingNote("comparison.json holds no arms.")
        return
    tasks = list(value.tasks)
    rows = [
        [
            name,
            count(arm.parameters),
            duration(arm.train_seconds),
            count(arm.predict_rows_per_second),
            *(count(arm.exposure.get(task)) for task in tasks),
        ]
        for name, arm in value.arms.items()
    ]
    columns = ["arm", "parameters", "training", "rows answered a second", *(f"rows of {task}" for task in tasks)]
    yield TableBlock("Parameters, time, and the rows of each task that were seen", columns, rows)
    rows = [[name, _what_it_is(name, value)] for name in value.arms]
    yield TableBlock("What each arm changes", ["arm", "what it is"], rows, words=2)


def _what_it_is(name: str, value: ComparisonForm) -> str:
    """Say what an arm changes, and which earlier arm has the same runs."""
    arm = value.arms[name]
    told = ", ".join(arm.overrides) or ARMS.get(name, "")
    before = list(value.arms)[: list(value.arms).index(name)]
    same = next((other for other in before if arm.runs and value.arms[other].runs == arm.runs), None)
    return told if same is None else f"{told}{'; ' if told else ''}the same runs as {same}"


def _number_of_runs(value: ComparisonForm) -> int:
    return sum(len(paths) for arm in value.arms.values() for paths in arm.runs.values())


def _transfer(value: ComparisonForm) -> Iterator[Block]:
    """Draw how single pairs of tasks help each other, where an arm tells it."""
    if value.transfer is None:
        return
    matrix = [[in_points(one) for one in row] for row in value.transfer.matrix]
    chart = task_matrix("change of the column's score by the row, points", value.transfer.tasks, matrix)
    yield drawn(
        [chart],
        "the matrix holds no number.",
        "How many points the task of the row adds to the score of the task of the column when they train together.",
    )


def _examples(value: ComparisonForm) -> Iterator[Block]:
    if not value.examples:
        yield MissingNote("comparison.json holds no examples.")
    for task, found in value.examples.items():
        for name, rows in (("fixed", found.fixed), ("broke", found.broken)):
            if rows:
                yield _example_table(f"{task}: rows that {found.arm} {name}", found.arm, rows)
            else:
                yield TextBlock(f"{task}: {found.arm} {name} no row.")


def _example_table(caption: str, arm: str, examples: list[ExampleForm]) -> TableBlock:
    rows = [
        [placed(one.place, one.row), answer(one.label), answer(one.single), answer(one.prediction), one.text]
        for one in examples[:SHOWN]
    ]
    return TableBlock(caption, ["where", "truth", "single", arm, "text"], rows, words=5, wide=True)


def _runs(folder: Path, value: ComparisonForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for arm, found in value.arms.items():
        for seed, paths in found.runs.items():
            rows.extend([arm, seed, _link(folder, path)] for path in paths)
    if rows:
        yield TableBlock("The report of every finished run", ["arm", "seed", "folder"], rows, words=3)
    else:
        yield from _runs_in(folder)


def _link(folder: Path, path: str) -> Link:
    """Link to the page of a run where it is written, or to its folder."""
    page = f"{path.rstrip('/')}/report.html"
    return Link(path, page if (folder / page).is_file() else path)


def _runs_in(folder: Path) -> Iterator[Block]:
    found = sorted(one for one in (folder / "runs").glob("*") if one.is_dir())
    if not found:
        yield MissingNote("there are no runs in the folder.")
        return
    rows: list[list[Cell]] = [
        [_link(folder, f"runs/{one.name}"), "finished" if (one / "scores.json").is_file() else "not finished"]
        for one in found
    ]
    yield TableBlock("The runs so far", ["folder", "state"], rows, words=2)


def _repeat(folder: Path, value: ComparisonForm) -> Iterator[Block]:
    named = "".join(
        f" --arm {shlex.quote(f'{name}={one}')}" for name, arm in value.arms.items() for one in arm.overrides
    )
    arms, seeds, name = ",".join(value.arms), ",".join(map(str, value.seeds)), folder.resolve().name
    config = f"{name}/config.json" if (folder / "config.json").is_file() else "CONFIG"
    floor = "" if value.floor is None else f" --floor {value.floor:g}"
    floor += f" --folds {value.folds}" if value.folds else ""
    command = f"polytask compare {config} --arms {arms}{named} --seeds {seeds}{floor} --out {name}-again"
    yield Code("Command, in the folder that holds this one", command)
    yield TextBlock(
        "The configuration of every run is the file config.yaml in its folder, its versions are in its run.json."
    )
    text = read_text(folder, "config.json")
    if text is None:
        yield MissingNote("config.json is not in the folder.")
    else:
        yield Code("config.json, the configuration that all arms start from", text.rstrip())
