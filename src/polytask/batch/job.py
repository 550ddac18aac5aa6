"""Prediction of many files into a folder by several workers; can be killed at any moment and continued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from polytask.artifact.description import read_description
from polytask.batch.folder import AnswerFolder
from polytask.batch.processes import WorkerProcesses
from polytask.batch.reading import Input, find_inputs, preview
from polytask.batch.shards import SHARD_ROWS, Shard, shards_of
from polytask.batch.worker import ShardAnswers, WorkOptions, model_digest
from polytask.batch.workers import Workers
from polytask.data.paths import passed_over
from polytask.errors import ConfigError, DataError, Interrupted
from polytask.launch import lifeline
from polytask.lock import locked
from polytask.predict.load import require_precision
from polytask.predict.predictor import chosen_tasks
from polytask.predict.sink import WRITERS
from polytask.progress import PartsBar
from polytask.ray_cluster.session import ray_session, require_ray
from polytask.signals import on_signals
from polytask.version import __version__

# Seconds between two checks for a request to stop.
_LOOK_S = 0.2
_GO_ON = "the same command continues from there"


@dataclass(frozen=True)
class PredictionJob:
    """Input files, and the folder for their predictions.

    Attributes:
        files: paths, folders and patterns.
        out: output folder.
        work: how rows are predicted and written.
        written: options for reading the files, such as {"separator": ";"}.
        workers: number of worker processes.
        shard_rows: number of rows that are predicted and written together.
        ray: whether the workers are actors on a Ray cluster.
    """

    files: tuple[str, ...]
    out: Path
    work: WorkOptions
    written: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: int = 1
    shard_rows: int = SHARD_ROWS
    ray: bool = False


def predict_files(job: PredictionJob, say: Callable[[str], None]) -> None:
    """Predict files; finished shards are not predicted again.

    Raises:
        UserError: the input is invalid, found before the first row is predicted; or rows have no prediction.
        Interrupted: after Ctrl-C or SIGTERM, once the current shards are written.
    """
    job, inputs = _prepared(job)
    _print_skipped(job.files, say)
    with locked(job.out):
        folder = AnswerFolder(job.out, inputs, job.work.form)
        folder.begin(_identity(job, inputs))
        if not all(folder.ended(place) for place in range(len(inputs))):
            if folder.finished:
                say(f"{sum(shard.rows for shard in folder.finished.values()):,} rows are already done; continuing")
            _answer(job, inputs, folder, say)
        summary = folder.end()
    _print_result(job, summary, say)


def _prepared(job: PredictionJob) -> tuple[PredictionJob, list[Input]]:
    """Check everything that can be checked before a model is loaded."""
    if job.ray:
        require_ray()
    if "row" in job.work.columns.keep:
        raise ConfigError("keep: found 'row', but a prediction has its own value under this name")
    WRITERS[job.work.form].require_packages()
    require_precision(job.work.precision)
    described = read_description(Path(job.work.model))
    tasks = chosen_tasks(described.tasks, job.work.tasks)
    inputs = find_inputs(job.files, job.out)
    examples = preview(inputs, job.written, job.work.columns, tasks)
    return replace(job, work=replace(job.work, examples=examples)), inputs


def _print_skipped(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Print which files in folders are skipped."""
    for name in names:
        skipped = passed_over(name)
        if skipped:
            message = f"files without a known extension, such as {skipped[0]}, are skipped ({len(skipped)})"
            say(f"note: {name}: {message}; name them to read them as texts, one per line")


def _identity(job: PredictionJob, inputs: list[Input]) -> dict[str, Any]:
    """Return everything that the predictions depend on."""
    work = job.work
    labels = None if work.labels is None else json.dumps(work.labels, sort_keys=True, default=str)
    options = {
        "tasks": work.tasks, "long": work.long, "to": work.form, "text": work.columns.texts,
        "keep": work.columns.keep, "exact": work.exact, "precision": work.precision, "extensions": work.extensions,
        "labels": None if labels is None else hashlib.sha256(labels.encode()).hexdigest(),
        "written": dict(job.written), "shard_rows": job.shard_rows,
    }  # fmt: skip
    return {
        "polytask": __version__,
        "model": model_digest(work.model),
        "input": [{"file": Path(file.path).name, "stem": file.stem, "sha256": file.digest} for file in inputs],
        "options": options,
    }


def _answer(job: PredictionJob, inputs: list[Input], folder: AnswerFolder, say: Callable[[str], None]) -> None:
    shards = _unfinished(job, inputs, folder, say)
    facts = {"model": model_digest(job.work.model), "polytask": __version__}
    held: dict[tuple[int, int], Shard] = {}
    done = sum(one.size for one in folder.finished.values())
    with _workers(job, facts) as workers, _asked_to_stop(workers, say) as stopping:
        more = True
        with PartsBar(sum(one.size for one in inputs), done) as bar:
            while more or workers.busy:
                while more and workers.ready() and not stopping:
                    shard = next(shards, None)
                    if shard is None:
                        more = False
                        break
                    held[shard.key] = shard
                    workers.give(shard)
                for answers in workers.take(_LOOK_S):
                    shard = held.pop(answers.key)
                    folder.put(shard, answers)
                    bar.advance(len(shard.rows), shard.size)
                if stopping and not workers.busy:
                    raise Interrupted(f"stopped; the predictions so far are in {job.out}, and {_GO_ON}")


def _unfinished(
    job: PredictionJob, inputs: list[Input], folder: AnswerFolder, say: Callable[[str], None]
) -> Iterator[Shard]:
    """Yield the shards to predict; those of files without rows are finished at once."""
    for place, file in enumerate(inputs):
        if folder.ended(place):
            continue
        for shard in shards_of(place, file, job.written, job.shard_rows, say):
            if not shard.rows:
                folder.put(shard, ShardAnswers(shard.key, b"", b"", 0, 0))
            elif shard.key not in folder.finished:
                yield shard


@contextmanager
def _workers(job: PredictionJob, facts: Mapping[str, str]) -> Generator[Workers[Any]]:
    with ExitStack() as stack:
        if job.ray:
            from polytask.batch.ray_actors import RayActors

            workers = RayActors(job.work, job.workers, facts, stack.enter_context(ray_session()))
        else:
            workers = WorkerProcesses(job.work, job.workers, facts, stack.enter_context(lifeline()))
        stack.callback(workers.close)
        yield workers


@contextmanager
def _asked_to_stop(workers: Workers[Any], say: Callable[[str], None]) -> Generator[list[int]]:
    """Yield a list that receives a signal to stop; a second signal ends the workers at once."""
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        say("stopping after the current shards; press Ctrl-C again to stop at once")
        workers.stop()

    with on_signals(stop):
        yield signals


def _print_result(job: PredictionJob, summary: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Print the result. Raises DataError if rows have no prediction."""
    for file in summary["files"]:
        if not file["rows"]:
            say(f"note: {file['file']}: holds no rows")
    message = f"{summary['answered']:,} rows predicted, in {job.out}"
    if summary["bad"]:
        raise DataError(f"{message}; {summary['bad']:,} rows have no prediction, see {job.out / '_bad'}")
    say(message)
