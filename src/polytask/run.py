"""One run: prepares its folder, then trains, selects, scores and saves the model."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from polytask.artifact.folder import save_bundle
from polytask.assembly import Assembly, versions
from polytask.config import Config
from polytask.config.row_files import ROWS, with_row_files
from polytask.errors import ConfigError, Interrupted, OutputError, PolytaskError, TrainingError, UserError
from polytask.files import reason, sweep, write_json, write_text
from polytask.lock import FILE as LOCK
from polytask.lock import locked
from polytask.predict.load import model_of
from polytask.predict.predictor import Model
from polytask.reference_scores import changes
from polytask.regular import is_there, read_text
from polytask.result import Result, brief_scores, score_records
from polytask.results import (
    HELD_OUT,
    RunResults,
    describe_data,
    describe_held_out,
    describe_model,
    fit_run,
    score_run,
    write_results,
)
from polytask.tasks import TASKS
from polytask.terms import Intervals, Scores
from polytask.training.distribution import World
from polytask.training.events import Callback, Events
from polytask.training.loop import Trainer
from polytask.training.requests import Requests
from polytask.training.selection import pareto
from polytask.training.snapshots import Snapshots


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A finished run.

    Attributes:
        folder: folder of the run, with the model in model/ (docs/training.md lists the files); None if not saved.
        model: the selected model, ready to predict.
        scores: {"dev": {task: {metric: value}}, "test": ...}; a split without rows is left out.
        baselines: the majority baseline's scores on the same rows.
        intervals: 95 % intervals, from a bootstrap over rows, of the test scores, and of the dev scores of tasks
            without test rows.
        stages: main dev score of every task at the end of each stage of the schedule.
        before: scores of the old tasks before an extension, for tasks that have rows.
    """

    folder: Path | None
    model: Model
    scores: dict[str, Scores]
    baselines: dict[str, Scores]
    intervals: dict[str, Intervals]
    stages: list[dict[str, Any]]
    before: dict[str, Scores] = field(default_factory=dict[str, Scores])

    def __fspath__(self) -> str:
        """Return the folder, so that a run can be passed where a folder is expected. Raises ConfigError without one."""
        if self.folder is None:
            raise ConfigError(
                "found a run that was kept in memory, where a folder is expected; write its model with "
                "run.model.save(FOLDER), or train with a folder"
            )
        return str(self.folder)

    def summary(self) -> str:
        split = "test" if "test" in self.scores else "dev"
        metrics = {name: task.metric for name, task in self.model.tasks.items()}
        place = "kept in memory" if self.folder is None else str(self.folder)
        return f"{place}, {split}: {brief_scores(self.scores.get(split, {}), metrics)}"

    def records(self) -> list[dict[str, Any]]:
        return list(score_records(self.scores, self.intervals, self.baselines))


def assemble_together(
    config: Config,
    folder: Path | None,
    world: World,
    stack: ExitStack,
    build: Callable[[Config], Assembly],
    *,
    resume: bool,
) -> Assembly:
    """Assemble the run in every process, starting with the first, which fills the cache and creates the folder.

    The first process finds the problems of the input, and the others raise the same error.

    Args:
        stack: takes the lock on the folder, and releases it when the run is over.
    """
    assembly: Assembly | None = None
    error: PolytaskError | None = None
    if world.is_main:
        try:
            if folder is not None:
                stack.enter_context(locked(folder))
                sweep_run(folder)
                require_free(folder, resume=resume)
                config = with_row_files(config, folder, write=True)
            assembly = build(config)
            require_rows(assembly, world)
            if folder is not None:
                require_unchanged(folder, assembly)
                open_run(folder, assembly)
        except PolytaskError as caught:
            error = caught
    problem = world.broadcast(None if error is None else str(error))
    if error is not None:
        raise error
    if problem is not None:
        raise UserError(str(problem))
    if assembly is not None:
        return assembly
    return build(config if folder is None else with_row_files(config, folder, write=False))


def require_rows(assembly: Assembly, world: World) -> None:
    """Raise ConfigError if an update has fewer rows than there are processes."""
    rows = assembly.workload.batch_size
    if world.size > rows:
        raise ConfigError(f"train.batch_size: found {rows}, fewer than the {world.size} processes")


def require_free(folder: Path, *, resume: bool) -> None:
    """Raise OutputError if the folder already holds a run and `resume` is false, or holds other files."""
    if is_there(folder / "model"):
        raise OutputError(f"{folder}: this run is complete; its model is in {folder / 'model'}; name another folder")
    names = sorted(item.name for item in folder.iterdir() if item.name != LOCK)
    # The first files of a run; a run that was stopped at that point has nothing to resume, and starts over.
    startable = set(names) <= {ROWS} or (resume and set(names) <= {"config.yaml", "log.txt", "events.jsonl", ROWS})
    if names and not startable and not is_run(folder):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise OutputError(f"{folder}: the folder holds other files ({shown}) and no run; name a new folder")
    if names and not resume and set(names) != {ROWS}:
        raise OutputError(
            f"{folder}: the folder holds an unfinished run; add --resume to continue it, or name another folder"
        )


def is_run(folder: Path) -> bool:
    """Whether a folder holds a started run, which has a record of its data."""
    try:
        record = json.loads(read_text(folder / "data.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "sources" in record


def sweep_run(folder: Path) -> None:
    """Delete what killed processes left in a run's folder: partial files, and checkpoints of a complete run."""
    sweep(folder, ".writing-")
    if is_there(folder / "model"):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def require_unchanged(folder: Path, assembly: Assembly) -> None:
    """Raise ConfigError if the checkpoints in a folder belong to another configuration or other data."""
    checkpoints = assembly.checkpoints(folder, World(0, 1))
    if checkpoints.is_of_another_run():
        differences = changes(folder / "config.yaml", assembly.config.to_json())
        shown = "; ".join(differences[:5]) or "the content of the data, or the encoder or its tokenizer"
        raise ConfigError(
            f"{folder}: the configuration or the data changed since its checkpoint was written, so the run cannot be "
            f"resumed exactly: {shown}; undo the change, or train into a new folder"
        )
    checkpoints.sweep()


def open_run(folder: Path, assembly: Assembly) -> None:
    """Write the description of a run into its folder. Raises OutputError if that is not possible."""
    text = yaml.safe_dump(assembly.config.to_json(), sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", text)
    write_json(folder / "data.json", describe_data(assembly))
    held_out = describe_held_out(assembly)
    if held_out:
        write_json(folder / HELD_OUT, held_out)


def run_assembly(
    assembly: Assembly,
    world: World,
    folder: Path | None,
    *,
    resume: bool,
    extra: Callable[[RunResults], Mapping[str, Any]] | None = None,
    before: Mapping[str, Scores] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train the assembled run, and select, score and save its model.

    Args:
        extra: returns further values for run.json.
        before: scores of the old tasks before an extension.
        callbacks: functions to call for every event, in the first process.

    Raises Interrupted after a requested stop. A request that came after the last step does not keep the run from being
    completed; it is raised then, with the run, so that a caller who trains several runs does not begin the next one.
    """
    requests = Requests(show=world.is_main)
    with requests.listening():
        run = _run(assembly, world, folder, requests, resume=resume, extra=extra, callbacks=callbacks)
    run = replace(run, before=dict(before or {}))
    if requests.stop:
        raise Interrupted("stopped, and the run is complete", run)
    return run


def _run(
    assembly: Assembly,
    world: World,
    folder: Path | None,
    requests: Requests,
    *,
    resume: bool,
    extra: Callable[[RunResults], Mapping[str, Any]] | None,
    callbacks: Sequence[Callback],
) -> Run:
    main_folder = folder if world.is_main else None
    began = time.monotonic()
    start = assembly.model.plan
    main_callbacks = callbacks if world.is_main else ()
    with Events(
        main_folder, tensorboard="tensorboard" in assembly.config.train.report_to, callbacks=main_callbacks
    ) as events:
        trainer = assembly.trainer(world, folder, events, requests)
        if resume:
            events.cut_after(trainer.state.step if trainer.state.resume() else -1)
        trainer.run()
        keeps_weights = trainer.parts.keeps_weights
        if folder is not None and keeps_weights and assembly.config.train.best_of_each_task:
            with kept_for_resume(folder):
                save_best_of_each_task(assembly, trainer.state.snapshots, folder / "best", world)
        best = trainer.state.snapshots.best
        trainer.state.snapshots.load(assembly.model)
        results = RunResults({}, {}, {}, {}, None)
        if keeps_weights:
            assembly, on_dev = fit_run(assembly)
            dev_scores = None if best is None else best.dev
            scored = score_run(assembly, dev_scores, on_dev, answer_dev=folder is not None)
            results = scored if world.is_main else results
        assembly = broadcast_tasks(assembly, world)
        events.write("scores", trainer.state.step, {"scores": results.scores})
    gathered = assembly.gathered()
    bundle = gathered.bundle(results.scores)
    if main_folder is not None:
        record = {
            "seconds": round(time.monotonic() - began, 3),
            **describe_training(trainer),
            **describe_model(assembly, start),
            "predict_rows_per_second": results.rows_per_second,
            "predicted_split": results.splits,
            "predicted_rows": results.rows,
            "fitted_on_dev": results.fitted,
            "notes": [f"{note.place}: {note.message}" for note in assembly.notes],
            "versions": versions(),
            "processes": world.size,
            **(extra(results) if extra is not None else {}),
        }
        with kept_for_resume(main_folder):
            write_json(main_folder / "run.json", record)
            write_results(main_folder, assembly, results)
            save_bundle(main_folder / "model", bundle)  # last: this folder marks the run as complete
        shutil.rmtree(main_folder / "checkpoints", ignore_errors=True)
    stages = trainer.state.stages.to_json()
    model = model_of(bundle, str(gathered.device))
    return Run(folder, model, results.scores, results.baselines, results.intervals, stages)


@contextmanager
def kept_for_resume(folder: Path) -> Generator[None]:
    """Turn errors while writing a trained run into a TrainingError: nothing is lost, and the run can be resumed."""
    try:
        yield
    except (OSError, OutputError) as error:
        message = str(error) if isinstance(error, OutputError) else f"{folder}: cannot be written ({reason(error)})"
        raise TrainingError(f"{message}; the checkpoints are kept: free space, and continue with --resume") from None


def broadcast_tasks(assembly: Assembly, world: World) -> Assembly:
    """Broadcast the tasks as fitted on dev from the first process to all."""
    records = world.broadcast({name: task.to_json() for name, task in assembly.tasks.items()})
    if world.is_main:
        return assembly
    assert isinstance(records, dict)
    return replace(
        assembly,
        tasks={name: TASKS[assembly.tasks[name].type_name].from_json(name, record) for name, record in records.items()},
    )


def describe_training(trainer: Trainer) -> dict[str, Any]:
    """Return the duration of the run, the rows seen by each task, and how the model was selected."""
    snapshots = trainer.state.snapshots
    return {
        "steps": trainer.state.step,
        "best_step": snapshots.selection.best_step,
        "best_step_by_task": {task: snapshot.step for task, snapshot in snapshots.by_task.items()},
        "selection": snapshots.selection.rule.to_json(),
        "pareto": pareto(snapshots.evaluations),
        "stages": trainer.state.stages.to_json(),
        "exposure": trainer.state.exposure.to_json(),
    }


def save_best_of_each_task(assembly: Assembly, snapshots: Snapshots, folder: Path, world: World) -> None:
    """Save the model of each task's best evaluation under the task's name, in the first process."""
    folder.mkdir(exist_ok=True)
    for task, snapshot in snapshots.by_task.items():
        snapshots.load(assembly.model, task)
        fitted, on_dev = fit_run(assembly)
        dev = {**snapshot.dev, **fitted.scorer().scores_of(on_dev)}
        bundle = fitted.gathered().bundle({"dev": dev})
        if world.is_main:
            shutil.rmtree(folder / task, ignore_errors=True)  # left by a run that was interrupted here
            save_bundle(folder / task, bundle)
