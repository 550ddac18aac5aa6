"""The files in a run's folder other than the model: data, scores, predictions, and a description of the model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from polytask.artifact.bundle import as_learned
from polytask.assembly import Assembly
from polytask.data.encode import Source
from polytask.data.prepare import task_facts
from polytask.data.rows import DataTable
from polytask.evaluation.fitting import describe_fitted, fit_on_dev
from polytask.evaluation.record import confusion, prediction_lines
from polytask.evaluation.scoring import TaskPredictions, rows_scored
from polytask.files import write_json, write_lines
from polytask.model.device import name_of, peak_mib
from polytask.model.parameters import count_parameters
from polytask.sharing import Plan
from polytask.tasks import LabelStats, Task, smaller_is_better
from polytask.terms import Intervals, Scores, Split
from polytask.training.selection import TestScores

# The file in a run's folder that lists the training rows held out as dev rows.
HELD_OUT = "held_out.json"


@dataclass(frozen=True)
class RunResults:
    """Results of the selected model on dev and test rows.

    Attributes:
        scores, baselines: scores of the model and of the majority baseline, by split.
        intervals: 95 % intervals, from a bootstrap over rows, of the test scores, and of the dev scores of tasks
            without test rows.
        answers: predictions on the test split, or on dev for a task without test rows.
        rows_per_second: rows encoded and predicted for all of their tasks per second; None if there were none.
        fitted: values fitted on dev, by task.
    """

    scores: dict[str, Scores]
    baselines: dict[str, Scores]
    intervals: dict[str, Intervals]
    answers: Mapping[str, TaskPredictions]
    rows_per_second: float | None
    fitted: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def splits(self) -> dict[str, Split]:
        """The split of each task's predictions."""
        return {task: predictions.source.split for task, predictions in self.answers.items()}

    @property
    def rows(self) -> dict[str, int]:
        """The number of each task's predictions, which is that of the lines of its file."""
        return {task: len(predictions.labels) for task, predictions in self.answers.items()}


def fit_run(assembly: Assembly) -> tuple[Assembly, Mapping[str, TaskPredictions]]:
    """Fit calibration and thresholds on dev for the tasks that request it, and return their dev predictions.

    All tasks take over what their heads have learned in any case.
    No test rows have been seen at this point.
    """
    assembly = replace(assembly, tasks=as_learned(assembly.tasks, assembly.model))
    asking = {name for name, task in assembly.tasks.items() if task.fits_on_dev}
    sources = [source for source in assembly.sources["dev"] if asking.intersection(source.tasks)]
    if not sources:
        return assembly, {}
    fitted = fit_on_dev(assembly.tasks, assembly.scorer().answers(assembly.engine(), sources))
    return replace(assembly, tasks=fitted.tasks, notes=(*assembly.notes, *fitted.notes)), fitted.answers


def score_run(
    assembly: Assembly, dev: Scores | None, on_dev: Mapping[str, TaskPredictions], *, answer_dev: bool
) -> RunResults:
    """Score the selected model and the majority baseline on test, once, and on dev unless those scores are known.

    Args:
        dev: dev scores of the selected model, if known.
        on_dev: dev predictions of tasks that were fitted on dev, which are scored again.
        answer_dev: whether to predict dev for tasks without test rows.
    """
    scorer, engine = assembly.scorer(), assembly.engine()
    test = assembly.sources["test"]
    tested = {task for source in test for task in source.tasks}
    dev_only = [source for source in assembly.sources["dev"] if not tested.issuperset(source.tasks)]
    dev_scores = dev or scorer.scores(engine, assembly.sources["dev"])
    scores: dict[str, Scores] = {"dev": {**dev_scores, **scorer.scores_of(on_dev)}}
    began = time.monotonic()
    on_test = scorer.answers(engine, test)
    untested = scorer.answers(engine, dev_only) if answer_dev else {}
    seconds = time.monotonic() - began
    if on_test:
        scores["test"] = TestScores(scorer.scores_of(on_test)).scores
    baselines = {split: scorer.baselines(assembly.sources[split]) for split in ("dev", "test") if split in scores}
    rows = rows_scored((*test, *(dev_only if answer_dev else ())))
    answers = {**untested, **on_test}
    ordered = {task: answers[task] for task in assembly.tasks if task in answers}
    speed = round(rows / seconds, 2) if rows and seconds else None
    fitted = describe_fitted(assembly.tasks, {"dev": on_dev, "test": on_test})
    intervals = {"test": scorer.intervals_of(on_test)}
    if untested:
        intervals["dev"] = scorer.intervals_of(untested)
    return RunResults(scores, baselines, intervals, ordered, speed, fitted)


def write_results(folder: Path, assembly: Assembly, results: RunResults) -> None:
    """Write scores, intervals, baselines, predictions and confusion matrices into the folder of a run."""
    write_json(folder / "baselines.json", results.baselines)
    write_json(folder / "scores.json", results.scores)
    write_json(folder / "intervals.json", results.intervals)
    (folder / "predictions").mkdir(exist_ok=True)
    for task, answers in results.answers.items():
        write_lines(folder / "predictions" / f"{task}.jsonl", prediction_lines(assembly.tasks[task], answers))
    matrices = {task: confusion(assembly.tasks[task], answers) for task, answers in results.answers.items()}
    write_json(folder / "confusion.json", {task: matrix for task, matrix in matrices.items() if matrix is not None})


def describe_model(assembly: Assembly, start: Plan) -> dict[str, Any]:
    """Return the sharing of the tasks, the number of parameters, and the device.

    Args:
        start: sharing plan before the first step.
    """
    sharing = assembly.model.sharing
    return {
        "sharing": sharing.to_json(),
        "start_plan": start.to_json(),
        "picture": sharing.picture(),
        "parameters": asdict(count_parameters(assembly.model)),
        "peak_mib": peak_mib(assembly.device),
        "device": name_of(assembly.device),
    }


def describe_data(assembly: Assembly) -> dict[str, Any]:
    """Return the tasks with their row and label counts, the sources with text lengths in tokens, and the notes."""
    label_stats = assembly.tables.label_stats
    everything = [source for sources in assembly.sources.values() for source in sources]
    return {
        "tasks": {name: _describe_task(task, label_stats[name], everything) for name, task in assembly.tasks.items()},
        "sources": [describe_source(source) for source in everything],
        "notes": [asdict(note) for note in assembly.notes],
    }


def describe_held_out(assembly: Assembly) -> dict[str, list[str]]:
    """Return the places of the dev rows of each task that holds out a fraction of its training rows."""
    return {
        name: places_of(table)
        for table in assembly.tables.tables["dev"]
        if table.feed.part is not None
        for name in table.feed.tasks
    }


def places_of(table: DataTable) -> list[str]:
    """Return the places of a table's rows: file and line."""
    return table.rows.data.column("place").to_pylist()


def _describe_task(task: Task, stats: LabelStats, sources: Iterable[Source]) -> dict[str, Any]:
    return {
        "type": task.type_name,
        "metric": task.metric,
        "smaller_is_better": smaller_is_better(task.metric),
        "needs": list(task.options.needs),
        "weight": task.options.weight,
        **({"scale": list(task.scale)} if task.scale else {}),
        **task_facts(task, stats, sources),
    }


def describe_source(source: Source) -> dict[str, Any]:
    """Return the number of labelled rows of a source, and their lengths in tokens."""
    rows = source.labelled
    lengths = source.lengths[rows]
    middle, high = np.quantile(lengths, [0.5, 0.95])
    return {
        "split": source.split,
        "tasks": list(source.tasks),
        "rows": len(rows),
        "median": float(middle),
        "p95": float(high),
        "longest": int(lengths.max()),
        "truncated": int(source.truncated[rows].sum()),
    }
