"""The page of a comparison: whether sharing paid off, by task and by arm."""

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

# The name and tone of each verdict.
VERDICTS = {
    "share": ("share", "good"),
    "share_partly": ("share partly", "part"),
    "keep_apart": ("keep apart", "bad"),
    "cannot_tell": ("cannot tell", "open"),
}
# Descriptions of the built-in arms.
ARMS = {
    "single": "one separate model per task",
    "global": "all tasks share the whole encoder",
    "config": "the configuration as it is",
    "independent": "one run for all tasks, without any sharing",
    "pairs": "models of two tasks each that share the whole encoder",
    "distill": "the configuration, with the single models as teachers",
}
SHOWN = 8  # examples per task and side
OPEN_RUNS = 12  # a longer list is folded


def comparison_page(folder: Path) -> Page:
    """Return the page of a comparison folder."""
    record = read(folder, "comparison.json", ComparisonForm)
    title = f"Comparison {folder.resolve().name}"
    if record.value is None:
        lead = unfinished(folder, "comparison", "comparison.json", record.problem)
        return Page(title, "Did sharing pay off", [lead], [Section("Runs", list(_runs_in(folder)))])
    value = record.value
    sections = [
        Section("Verdicts", list(_verdicts(value))),
        Section("Scores of every arm", list(arm_table(value))),
        Section("Differences to single models", list(_differences(value))),
        Section("What an arm costs", list(_costs(value))),
        Section("Runs", list(_runs(folder, value)), _number_of_runs(value) > OPEN_RUNS, "their reports"),
        Section("Each seed", list(_scores(value)), folded=True, hint="all figures of every arm"),
        Section("Transfer between tasks", list(_transfer(value)), folded=True, hint="effects of tasks on each other"),
        Section("Rows that sharing fixed and broke", list(_examples(value)), folded=True, hint=_rows_of(value)),
        Section("To repeat the comparison", list(_repeat(folder, value)), folded=True, hint="command, configuration"),
    ]
    kind = f"Did sharing pay off: {len(value.tasks)} tasks, {len(value.arms)} arms, {len(value.seeds)} seeds"
    if value.folds:
        kind += f", {value.folds} folds of the training rows"
    return Page(title, kind, list(_lead(value)), ordered(sections))


def _lead(value: ComparisonForm) -> Iterator[Block]:
    if value.recommended:
        description = ARMS.get(
            value.recommended, ", ".join(getattr(value.arms.get(value.recommended), "overrides", []))
        )
        title = f"Recommended: {value.recommended}" + (f" ({description})" if description else "")
        reason = "" if not value.reason else f"{sentence(value.reason.rstrip('.'))}."
        unsure = sum(verdict.verdict == "cannot_tell" for verdict in value.tasks.values())
        if unsure:
            reason += f" For {unsure} of {len(value.tasks)} tasks the comparison cannot tell whether sharing pays off."
        yield Banner("Did sharing pay off?", title, reason)
    else:
        yield MissingNote("comparison.json recommends no arm.")
    if value.notes:
        yield BulletList(value.notes)


def _verdicts(value: ComparisonForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for task, verdict in value.tasks.items():
        name, tone = VERDICTS.get(verdict.verdict or "", (verdict.verdict or "none", "open"))
        why = sentence((verdict.sentence or "").removeprefix(f"{name}: "))
        rows.append([task, Mark(name, tone), _what_to_do(verdict, value), why])
    yield TableBlock("Each task", ["task", "verdict", "what to do", "why"], rows, words=4, wide=True)
    if value.floor is not None:
        yield TextBlock(
            f"An arm is recommended only if no task is significantly more than {value.floor:g} points (hundredths) "
            "below its single model."
        )


def _what_to_do(verdict: VerdictForm, value: ComparisonForm) -> str:
    """Return the recommended action for a verdict."""
    if verdict.verdict == "share":
        return "Train it jointly with the others."
    if verdict.verdict == "share_partly":
        arm = re.match(r"share partly: with (.+?), ", verdict.sentence or "")
        return f"Train it jointly, as in the arm {arm[1]}." if arm else "Train it jointly, as in another arm."
    if verdict.verdict == "keep_apart":
        return "Train a separate model for it."
    needed = verdict.needed
    suggestions: list[str] = []
    if needed is not None and needed.seeds is not None:
        suggestions.append(f"repeat the command with --seeds {needed.seeds} (now {len(value.seeds)})")
    if needed is not None and needed.rows is not None:
        now = "" if verdict.rows is None else f" (now {verdict.rows})"
        suggestions.append(f"label {_rows_of(value)} until there are {needed.rows}{now}")
        if not value.folds:
            suggestions.append("add --folds 5 to compare on all training rows")
    if not suggestions:
        alone = f"more seeds or {_rows_of(value)} alone would not settle it."
        return f"Train longer or on more rows and compare again: {alone}"
    return f"{sentence('; or '.join(suggestions))}."


def _rows_of(value: ComparisonForm) -> str:
    """Return the name of the rows that the arms are compared on."""
    return "training rows" if value.folds else "test rows"


def _differences(value: ComparisonForm) -> Iterator[Block]:
    floor = [] if value.floor is None else [(-value.floor, f"floor: {value.floor:g} points below")]
    alike = [task for task, verdict in value.tasks.items() if _are_alike(verdict)]
    drawings = [_difference_chart(task, verdict, floor) for task, verdict in value.tasks.items() if task not in alike]
    charts = [drawing for drawing in drawings if drawing is not None]
    if alike:
        yield TextBlock(f"All arms score the same as single models: {', '.join(map(isolated, alike))}.")
    if not charts:
        yield MissingNote("all differences are 0 or undefined.")
        return
    yield from charts
    yield TextBlock(
        f"Difference between an arm and the single models in points, with its {100 * value.level:g} % interval; higher "
        "is better. The solid line marks no difference, the dashed one the floor. A dot is hollow if its interval "
        "contains zero, and filled otherwise."
    )


def _are_alike(verdict: VerdictForm) -> bool:
    """Whether every arm scores exactly like the single models, in every bootstrap replicate."""
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
    for task, verdict in value.tasks.items():
        rows: list[list[str]] = []
        for arm, score in verdict.arms.items():
            relative = "" if score.relative is None else f"{signed(100 * score.relative, 1)} %"
            mean, spread, *seeds = (
                _score(verdict.metric, single_value) for single_value in (score.mean, score.std, *score.values)
            )  # fmt: skip
            apart = "" if arm == "single" else points(score.delta)
            rows.append(
                [arm, mean, spread, apart, points_interval(score.low, score.high), relative, "  ".join(seeds)]
            )  # fmt: skip
        columns = ["arm", "mean", "spread", "difference", f"{100 * value.level:g} % interval", "relative", "each seed"]
        yield TableBlock(f"{task}: {verdict.metric}, in points (errors in their unit)", columns, rows)


def _score(metric: str, value: float | None) -> str:
    return "" if value is None else score_text(metric, value).replace("-", "\u2212")


def _costs(value: ComparisonForm) -> Iterator[Block]:
    if not value.arms:
        yield MissingNote("comparison.json contains no arms.")
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
    columns = ["arm", "parameters", "training", "rows predicted per second", *(f"rows of {task}" for task in tasks)]
    yield TableBlock("Parameters, time, and rows seen of each task", columns, rows)
    rows = [[name, _what_it_is(name, value)] for name in value.arms]
    yield TableBlock("What each arm changes", ["arm", "what it is"], rows, words=2)


def _what_it_is(name: str, value: ComparisonForm) -> str:
    """Describe what an arm changes, and which earlier arm has the same runs."""
    arm = value.arms[name]
    changes = ", ".join(arm.overrides) or ARMS.get(name, "")
    before = list(value.arms)[: list(value.arms).index(name)]
    same = next((other for other in before if arm.runs and value.arms[other].runs == arm.runs), None)
    return changes if same is None else f"{changes}{'; ' if changes else ''}the same runs as {same}"


def _number_of_runs(value: ComparisonForm) -> int:
    return sum(len(paths) for arm in value.arms.values() for paths in arm.runs.values())


def _transfer(value: ComparisonForm) -> Iterator[Block]:
    """Draw how pairs of tasks help each other, if that was measured."""
    if value.transfer is None:
        return
    matrix = [[in_points(cell) for cell in row] for row in value.transfer.matrix]
    chart = task_matrix("effect of the row's task on the column's score, points", value.transfer.tasks, matrix)
    yield drawn(
        [chart],
        "the matrix contains no numbers.",
        "Points that the task of the row adds to the score of the task of the column when the two train together.",
    )


def _examples(value: ComparisonForm) -> Iterator[Block]:
    if not value.examples:
        yield MissingNote("comparison.json contains no examples.")
    for task, examples in value.examples.items():
        for name, rows in (("fixed", examples.fixed), ("broke", examples.broken)):
            if rows:
                yield _example_table(f"{task}: rows that {examples.arm} {name}", examples.arm, rows)
            else:
                yield TextBlock(f"{task}: {examples.arm} {name} no row.")


def _example_table(caption: str, arm: str, examples: list[ExampleForm]) -> TableBlock:
    rows = [
        [
            placed(example.place, example.row),
            answer(example.label),
            answer(example.single),
            answer(example.prediction),
            example.text,
        ]
        for example in examples[:SHOWN]
    ]
    return TableBlock(caption, ["where", "truth", "single", arm, "text"], rows, words=5, wide=True)


def _runs(folder: Path, value: ComparisonForm) -> Iterator[Block]:
    rows: list[list[Cell]] = []
    for arm, arm_record in value.arms.items():
        for seed, paths in arm_record.runs.items():
            rows.extend([arm, seed, _link(folder, path)] for path in paths)
    if rows:
        yield TableBlock("The report of every finished run", ["arm", "seed", "folder"], rows, words=3)
    else:
        yield from _runs_in(folder)


def _link(folder: Path, path: str) -> Link:
    """Link to the page of a run if it exists, or to its folder."""
    page = f"{path.rstrip('/')}/report.html"
    return Link(path, page if (folder / page).is_file() else path)


def _runs_in(folder: Path) -> Iterator[Block]:
    folders = sorted(run_folder for run_folder in (folder / "runs").glob("*") if run_folder.is_dir())
    if not folders:
        yield MissingNote("the folder contains no runs.")
        return
    rows: list[list[Cell]] = [
        [
            _link(folder, f"runs/{run_folder.name}"),
            "finished" if (run_folder / "scores.json").is_file() else "not finished",
        ]
        for run_folder in folders
    ]
    yield TableBlock("The runs so far", ["folder", "state"], rows, words=2)


def _repeat(folder: Path, value: ComparisonForm) -> Iterator[Block]:
    named = "".join(
        f" --arm {shlex.quote(f'{name}={override}')}" for name, arm in value.arms.items() for override in arm.overrides
    )
    arms, seeds, name = ",".join(value.arms), ",".join(map(str, value.seeds)), folder.resolve().name
    config = f"{name}/config.json" if (folder / "config.json").is_file() else "CONFIG"
    floor = "" if value.floor is None else f" --floor {value.floor:g}"
    floor += f" --folds {value.folds}" if value.folds else ""
    command = f"polytask compare {config} --arms {arms}{named} --seeds {seeds}{floor} --out {name}-again"
    yield Code("Command, to run in the parent folder", command)
    yield TextBlock("The configuration of every run is in config.yaml in its folder, and its versions are in run.json.")
    text = read_text(folder, "config.json")
    if text is None:
        yield MissingNote("config.json is not in the folder.")
    else:
        yield Code("config.json, the base configuration of all arms", text.rstrip())
