"""Answer many files into a folder, by several workers; killed at any moment, the same command goes on."""

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

# Seconds until it is looked again whether somebody asks to stop.
_LOOK_S = 0.2
_GO_ON = "the same command goes on from there"


@dataclass(frozen=True)
class PredictionJob:
    """Files, and the folder for their answers.

    Attributes:
        files: paths, folders and patterns.
        work: how rows are answered and written.
        written: how the files are written, such as {"separator": ";"}.
        workers: processes that answer.
        shard_rows: rows that are answered and written together.
        ray: whether the workers are actors of a Ray cluster.
    """

    files: tuple[str, ...]
    out: Path
    work: WorkOptions
    written: Mapping[str, str] = field(default_factory=dict[str, str])
    workers: int = 1
    shard_rows: int = SHARD_ROWS
    ray: bool = False


def predict_files(job: PredictionJob, say: Callable[[str], None]) -> None:
    """Answer files; what was finished before is not answered again.

    Raises:
        UserError: something cannot be used, which is found before the first row is answered; or rows have no answer,
            after all others have theirs.
        Interrupted: after Ctrl-C or SIGTERM, when the shards that were being answered are written.
    """
    job, inputs = _prepared(job)
    _tell_passed_over(job.files, say)
    with locked(job.out):
        folder = AnswerFolder(job.out, inputs, job.work.form)
        folder.begin(_identity(job, inputs))
        if not all(folder.ended(place) for place in range(len(inputs))):
            if folder.finished:
                say(f"{sum(one.rows for one in folder.finished.values()):,} rows were answered before; going on")
            _answer(job, inputs, folder, say)
        found = folder.end()
    _tell(job, found, say)


def _prepared(job: PredictionJob) -> tuple[PredictionJob, list[Input]]:
    """Check all that can be known before a model is loaded."""
    if job.ray:
        require_ray()
    if "row" in job.work.columns.keep:
        raise ConfigError("keep: found 'row', and an answer has a value of its own under this name")
    WRITERS[job.work.form].require_packages()
    require_precision(job.work.precision)
    described = read_description(Path(job.work.model))
    tasks = chosen_tasks(described.tasks, job.work.tasks)
    inputs = find_inputs(job.files, job.out)
    examples = preview(inputs, job.written, job.work.columns, tasks)
    return replace(job, work=replace(job.work, examples=examples)), inputs


def _tell_passed_over(names: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which files of folders are not answered."""
    for name in names:
        left = passed_over(name)
        if left:
            such = f"files whose names tell no format, such as {left[0]}, are left out ({len(left)})"
            say(f"note: {name}: {such}; name them to have them read as texts, one a line")


def _identity(job: PredictionJob, inputs: list[Input]) -> dict[str, Any]:
    """Return what answers depend on: another one of these would give others."""
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
        "input": [{"file": Path(one.path).name, "stem": one.stem, "sha256": one.digest} for one in inputs],
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
                    raise Interrupted(f"stopped; what was answered is in {job.out}, and {_GO_ON}")


def _unfinished(
    job: PredictionJob, inputs: list[Input], folder: AnswerFolder, say: Callable[[str], None]
) -> Iterator[Shard]:
    """Yield the shards that are to be answered; those of files without rows are finished at once."""
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
    with ExitStack() as held:
        if job.ray:
            from polytask.batch.ray_actors import RayActors

            workers = RayActors(job.work, job.workers, facts, held.enter_context(ray_session()))
        else:
            workers = WorkerProcesses(job.work, job.workers, facts, held.enter_context(lifeline()))
        held.callback(workers.close)
        yield workers


@contextmanager
def _asked_to_stop(workers: Workers[Any], say: Callable[[str], None]) -> Generator[list[int]]:
    """Give a list that gets the signal by which somebody asks to stop; asked twice, it ends at once."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after the shards that are being answered; press Ctrl-C again to stop at once")
        workers.stop()

    with on_signals(stop):
        yield asked


def _tell(job: PredictionJob, summary: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Say how it ended. Raises DataError where rows have no answer."""
    for file in summary["files"]:
        if not file["rows"]:
            say(f"note: {file['file']}: holds no rows")
    told = f"{summary['answered']:,} rows answered, in {job.out}"
    if summary["bad"]:
        raise DataError(f"{told}; {summary['bad']:,} rows have no answer, and {job.out / '_bad'} says why")
    say(told)
