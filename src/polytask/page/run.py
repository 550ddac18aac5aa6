"""The page of a run: its scores, errors, data, training curves, and how to repeat it."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from polytask.page.answers import answers, confusions
from polytask.page.block import (
    Banner,
    Block,
    BulletList,
    Code,
    Details,
    MissingNote,
    Page,
    Section,
    TableBlock,
    TextBlock,
    drawn,
    ordered,
)
from polytask.page.cards import cards
from polytask.page.chart import Dot, forest
from polytask.page.chart.svg import finite
from polytask.page.folder import RunFolder
from polytask.page.plan import sharing
from polytask.page.training_curves import TrainingCurves
from polytask.page.wording import count, interval, isolated, number
from polytask.terminal import duration


def run_page(folder: Path) -> Page:
    """Return the page of a run folder."""
    run = RunFolder(folder)
    training_curves = TrainingCurves(run)
    config = run.config_text is not None
    brief = run.finished and len(training_curves) < 2
    sections = [
        Section("Scores", list(_scores(run))),
        Section("What it gets wrong", list(answers(run))),
        Section("Confusion matrices", list(confusions(run))),
        Section("Learning curves", list(training_curves.curves()), brief, _steps(run)),
        Section(
            "What the tasks share",
            list(sharing(run)),
            not run.events_of("split", "merge", "head_split"),
            _strategy(run),
        ),
        Section("Tasks and data", list(_data(run)), folded=True, hint=_notes(run)),
        Section("Evaluations", list(training_curves.evaluations()), folded=True, hint="dev scores from the log"),
        Section("Rows seen by each task", list(training_curves.exposure()), folded=True, hint="rows, tokens, epochs"),
        Section("Task weights", list(training_curves.weights()), folded=True, hint="over the steps"),
        Section("Similarity of the gradients", list(training_curves.similarity()), folded=True),
        Section("Forgetting", list(training_curves.forgetting()), folded=True, hint="scores after each stage"),
        Section("Speed and memory", list(_speed(run, training_curves)), folded=True, hint=_time(run)),
        Section("To repeat the run", list(_repeat(run)), True, "command, configuration, versions" if config else ""),
    ]
    return Page(
        f"Run {run.name}",
        f"One model for {len(run.tasks)} tasks: {', '.join(run.tasks)}",
        list(_lead(run)),
        ordered(sections, finished=run.finished),
    )


def _lead(run: RunFolder) -> Iterator[Block]:
    if run.goes_on:
        yield from _so_far(run)
    elif not run.finished:
        yield from _stopped(run)
    for problem in run.problems:
        yield MissingNote(problem)
    if run.finished:
        yield cards(run)
        yield TextBlock(_summary(run))


def _so_far(run: RunFolder) -> Iterator[Block]:
    """Yield the progress of a training, and the dev scores so far."""
    time_left = run.seconds_left
    time = f"About {duration(time_left)} left at this pace. " if time_left else ""
    explanation = "Scores with intervals, wrong predictions and the model follow at the end."
    yield Banner("In training", _reached(run), time + explanation, "open")
    yield from _dev_so_far(run)


def _stopped(run: RunFolder) -> Iterator[Block]:
    """Yield where and why a training stopped, and the command to resume it."""
    failed = next((event.reason for event in reversed(run.events) if event.event == "failed"), None)
    reason = f"Training stopped: {failed}. " if failed else ""
    yield Banner("Not finished", _reached(run), f"{reason}{run.scores.problem} Resume with this command:", "open")
    command = f"polytask train {run.name}/{run.config_name} --out {run.name} --resume"
    yield Code("In the parent folder", command)
    yield from _dev_so_far(run)


def _reached(run: RunFolder) -> str:
    return f"Step {run.events[-1].step}{_of(run.planned_steps)}" if run.events else "Before the first step"


def _dev_so_far(run: RunFolder) -> Iterator[Block]:
    """Yield a table of each task's last and best dev score."""
    evaluations = run.events_of("evaluation")
    if not evaluations:
        return
    rows: list[list[str]] = []
    for task in run.tasks:
        metric = run.metric(task)
        scores = [(event.dev.get(task, {}).get(metric), event.step) for event in evaluations]
        defined = [(score, step) for score, step in scores if score is not None]
        best, at = (min if run.is_error(task) else max)(defined, key=itemgetter(0), default=(None, None))
        rows.append([task, metric, number(scores[-1][0]), number(best), "" if at is None else f"{at}"])
    columns = ["task", "metric", f"step {evaluations[-1].step}", "best", "at step"]
    yield TableBlock("Dev scores so far", columns, rows, words=2)


def _steps(run: RunFolder) -> str:
    evaluations = len(run.events_of("evaluation"))
    return f"{evaluations} evaluation{'' if evaluations == 1 else 's'}"


def _time(run: RunFolder) -> str:
    return "so far" if run.record.seconds is None else duration(run.record.seconds)


def _strategy(run: RunFolder) -> str:
    strategy = run.option("sharing", "strategy")
    return strategy if isinstance(strategy, str) else ""


def _notes(run: RunFolder) -> str:
    notes = len(run.data.value.notes if run.data.value is not None else run.record.notes)
    return f"{notes} note{'' if notes == 1 else 's'} on the data" if notes else "sizes, labels, lengths"


def _of(steps: int | None) -> str:
    return "" if steps is None else f" of {steps}"


def _summary(run: RunFolder) -> str:
    parts = [f"{count(run.record.steps)} updates in {duration(run.record.seconds)}"]
    if run.record.best_step is not None:
        parts.append(f"the model of step {run.record.best_step} was kept")
    if run.chosen_by:
        parts.append(f"chosen by {run.chosen_by}")
    return f"{', '.join(parts)}. Scores are on the {run.final_split} rows."


def _scores(run: RunFolder) -> Iterator[Block]:
    if not run.finished:
        return
    baselines = run.baselines.value or {}
    if not baselines:
        yield MissingNote(f"the majority baseline: {run.baselines.problem or 'baselines.json is empty.'}")
    if run.intervals.problem:
        yield MissingNote(f"intervals: {run.intervals.problem}")
    charts = _score_charts(run)
    if not charts:
        yield MissingNote("no main score is defined.")
    yield from charts
    yield TextBlock(
        f"The main metric of each task on the {run.final_split} rows. Dot: score, with its 95 % interval (bootstrap "
        "over rows) if known. Hollow circle: score of always predicting the majority."
    )
    yield Details("All scores", [_score_table(run)])


def _score_charts(run: RunFolder) -> list[Block]:
    """Draw all scores between 0 and 1 on one axis, and each other metric on its own axis."""
    by_axis: dict[str, list[Dot]] = {}
    for task in run.tasks:
        metric = run.metric(task)
        value = run.score(run.final_split, task, metric)
        low, high = run.interval(run.final_split, task, metric)
        majority = run.baseline(run.final_split, task, metric)
        shown = number(value, 3) if low is None else f"{number(value, 3)}  ({number(low, 3)} to {number(high, 3)})"
        label = f"{task} ({metric})"
        one_axis = not run.is_error(task) and all(0 <= part <= 1 for part in finite([value, low, high, majority]))
        by_axis.setdefault("" if one_axis else metric, []).append(Dot(label, value, shown, low, high, majority))
    drawings = [forest(name, dots, limits=None if name else (0.0, 1.0)) for name, dots in by_axis.items()]
    return [drawing for drawing in drawings if drawing is not None]


def _score_table(run: RunFolder) -> Block:
    splits, has_baselines = list(run.scores.value or {}), bool(run.baselines.value)
    columns = ["task", "metric"]
    for split in splits:
        columns += [
            split,
            *(["95 % interval"] if run.has_intervals(split) else []),
            *(["majority"] if has_baselines else []),
        ]
    rows: list[list[str]] = []
    for task in run.tasks:
        metrics = dict.fromkeys(metric for split in splits for metric in (run.scores.value or {})[split].get(task, {}))
        for place, metric in enumerate(metrics):
            row = [task if place == 0 else "", f"{metric} (main)" if metric == run.metric(task) else metric]
            for split in splits:
                row.append(number(run.score(split, task, metric)))
                row += [interval(*run.interval(split, task, metric))] if run.has_intervals(split) else []
                row += [number(run.baseline(split, task, metric))] if has_baselines else []
            rows.append(row)
    return TableBlock("All scores", columns, rows, words=2)


def _data(run: RunFolder) -> Iterator[Block]:
    data = run.data.value
    if data is None:
        yield MissingNote(f"sizes, labels and lengths: {run.data.problem}")
    else:
        splits = list(dict.fromkeys(split for task in data.tasks.values() for split in task.rows))
        rows = [
            [
                name,
                task.type,
                task.metric or "",
                ", ".join(task.needs) or "none",
                number(task.weight, 2),
                *(count(task.rows.get(split, 0)) for split in splits),
            ]
            for name, task in data.tasks.items()
        ]
        yield TableBlock("Tasks", ["task", "type", "main metric", "needs", "weight", *splits], rows, words=4)
        rows = [
            [
                source.split,
                ", ".join(source.tasks),
                count(source.rows),
                count(source.median),
                count(source.p95),
                count(source.longest),
                count(source.truncated),
            ]
            for source in data.sources
        ]
        columns = ["split", "tasks", "rows", "median", "95 % below", "longest", "truncated rows"]
        yield TableBlock("Rows, and their lengths in tokens", columns, rows, words=2)
        yield TableBlock(
            "Labels in training", ["task", "labels, most frequent first"], list(_labels(run)), words=2, wide=True
        )
    notes = [f"{note.place}: {note.message}" for note in data.notes] if data is not None else run.record.notes
    if notes:
        yield TextBlock("Notes on the data (including leaks between splits):")
        yield BulletList(notes)
    elif data is not None or run.finished:
        yield TextBlock("No problems were found in the data: no row of dev or test occurs in train.")


def _labels(run: RunFolder) -> Iterator[list[str]]:
    assert run.data.value is not None
    for name, task in run.data.value.tasks.items():
        if task.labels:
            total = sum(task.labels.values()) or 1
            common = sorted(task.labels.items(), key=lambda item: -item[1])
            listed = ", ".join(
                f"{isolated(label)} {count(occurrences)} ({100 * occurrences / total:.1f} %)"
                for label, occurrences in common[:20]
            )
            yield [name, listed + (f", {len(common) - 20} more" if len(common) > 20 else "")]
        elif task.range is not None and len(task.range) == 3:
            low, mean, high = task.range
            yield [name, f"numbers from {low:g} to {high:g}, mean {mean:.3g}"]
        else:
            yield [name, "not counted"]


def _speed(run: RunFolder, training_curves: TrainingCurves) -> Iterator[Block]:
    record = run.record
    rows = [
        ["training", duration(record.seconds)],
        ["updates", count(record.steps)],
        ["peak memory", "unknown" if record.peak_mib is None else f"{count(record.peak_mib)} MiB"],
        [
            "scoring",
            "unknown"
            if record.predict_rows_per_second is None
            else f"{count(record.predict_rows_per_second)} rows per second",
        ],
        ["device", record.device or "unknown"],
        ["processes", count(record.processes)],
    ]
    rows = [row for row in rows if run.finished or row[1] != "unknown"]
    if rows:
        yield TableBlock("Time and memory", ["measure", "value"], rows)
    parameters = record.parameters
    if parameters is None and run.finished:
        yield MissingNote("numbers of parameters: run.json does not contain them.")
    elif parameters is not None:
        rows = [
            ["this model", count(parameters.total)],
            ["a model that shares the whole encoder", count(parameters.single)],
            ["one model per task", count(parameters.apart)],
        ]
        yield TableBlock("Parameters", ["model", "total"], rows)
        rows = [[task, count(shared), count(parameters.own.get(task))] for task, shared in parameters.shared.items()]
        yield TableBlock("Parameters by task", ["task", "shared", "own"], rows)
    yield drawn([training_curves.speed()], "the log contains no speed yet.")


def _repeat(run: RunFolder) -> Iterator[Block]:
    yield Code("Command, to run in the parent folder", f"polytask train {run.name}/config.yaml --out {run.name}-again")
    seed = run.option("train", "seed")
    yield TextBlock(f"Seed: {seed}." if seed is not None else "The seed is the default.")
    if run.config_text is None:
        yield MissingNote("config.yaml is not in the folder.")
    else:
        yield Code("config.yaml, with all values resolved", run.config_text.rstrip())
    if run.record.versions:
        rows = [[name, str(version)] for name, version in run.record.versions.items()]
        yield TableBlock("Versions", ["package", "version"], rows, words=2)
    elif run.finished:
        yield MissingNote("versions: run.json does not contain them.")
