"""One run: its folder, opened and swept; what was assembled is trained, chosen, scored and saved."""

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
from polytask.errors import ConfigError, OutputError, PolytaskError, TrainingError, UserError
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
from polytask.training.selection import pareto
from polytask.training.snapshots import Snapshots


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A finished run.

    Attributes:
        folder: where it lies, with the model in model/ (docs/training.md lists the files); None when nothing was kept.
        model: the chosen model, ready to answer.
        scores: {"dev": {task: {metric: value}}, "test": ...}; a split without rows is left out.
        baselines: the majority baseline's scores on the same rows.
        intervals: 95 %, from a bootstrap over rows, of the test scores, and of the dev scores of tasks without test
            rows.
        stages: every task's main dev score at the end of each stage of the schedule.
        before: of an extension: the old tasks' scores before it, where they have rows.
    """

    folder: Path | None
    model: Model
    scores: dict[str, Scores]
    baselines: dict[str, Scores]
    intervals: dict[str, Intervals]
    stages: list[dict[str, Any]]
    before: dict[str, Scores] = field(default_factory=dict[str, Scores])

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
    held: ExitStack,
    build: Callable[[Config], Assembly],
    *,
    resume: bool,
) -> Assembly:
    """Assemble the run in every process: in the first one first, which fills the cache and makes the folder.

    What is wrong with the input is found there, and the other processes raise the same error.

    Args:
        held: is given the lock on the folder, to be released when the run is over.
    """
    assembly: Assembly | None = None
    error: PolytaskError | None = None
    if world.is_main:
        try:
            if folder is not None:
                held.enter_context(locked(folder))
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
    told = world.broadcast(None if error is None else str(error))
    if error is not None:
        raise error
    if told is not None:
        raise UserError(str(told))
    if assembly is not None:
        return assembly
    return build(config if folder is None else with_row_files(config, folder, write=False))


def require_rows(assembly: Assembly, world: World) -> None:
    """Raise ConfigError when an update has fewer rows than there are processes."""
    rows = assembly.workload.batch_size
    if world.size > rows:
        raise ConfigError(f"train.batch_size: found {rows}, fewer than the {world.size} processes")


def require_free(folder: Path, *, resume: bool) -> None:
    """Raise OutputError when the folder of a run is there already and `resume` was not asked for."""
    if is_there(folder / "model"):
        raise OutputError(f"{folder}: this run is complete; its model is in {folder / 'model'}; name another folder")
    held = sorted(item.name for item in folder.iterdir() if item.name != LOCK)
    # What is written before all else; a run that was stopped then has nothing to go on from, and begins.
    begun = set(held) <= {ROWS} or (resume and set(held) <= {"config.yaml", "log.txt", "events.jsonl", ROWS})
    if held and not begun and not is_run(folder):
        listed = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise OutputError(f"{folder}: the folder holds other files ({listed}) and no run; name a new folder")
    if held and not resume and set(held) != {ROWS}:
        raise OutputError(f"{folder}: a run was begun here; add --resume to go on with it, or name another folder")


def is_run(folder: Path) -> bool:
    """Whether a run was begun in a folder: it says there which rows it reads."""
    try:
        found = json.loads(read_text(folder / "data.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "sources" in found


def sweep_run(folder: Path) -> None:
    """Delete what killed processes left in the folder of a run: halves of files, and checkpoints of a complete run."""
    sweep(folder, ".writing-")
    if is_there(folder / "model"):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def require_unchanged(folder: Path, assembly: Assembly) -> None:
    """Raise ConfigError when the folder holds checkpoints of a run with another configuration or other data."""
    checkpoints = assembly.checkpoints(folder, World(0, 1))
    if checkpoints.is_of_another_run():
        found = changes(folder / "config.yaml", assembly.config.to_json())
        shown = "; ".join(found[:5]) or "the content of the data, or the encoder or its tokenizer"
        raise ConfigError(
            f"{folder}: the configuration or the data changed since its checkpoint was written, so the run cannot go "
            f"on exactly: {shown}; undo the change, or train into a new folder"
        )
    checkpoints.sweep()


def open_run(folder: Path, assembly: Assembly) -> None:
    """Say in the folder of a run what will run. Raises OutputError when it cannot be written."""
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
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train, choose, score and save what was assembled.

    Args:
        extra: what else run.json is to say.
        callbacks: are told every event, in the first process.
    """
    main_folder = folder if world.is_main else None
    began = time.monotonic()
    start = assembly.model.plan
    told = callbacks if world.is_main else ()
    with Events(main_folder, tensorboard="tensorboard" in assembly.config.train.report_to, callbacks=told) as events:
        trainer = assembly.trainer(world, folder, events)
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
            known = None if best is None else best.dev
            found = score_run(assembly, known, on_dev, answer_dev=folder is not None)
            results = found if world.is_main else results
        assembly = tell_fitted(assembly, world)
        events.write("scores", trainer.state.step, {"scores": results.scores})
    whole = assembly.gathered()
    bundle = whole.bundle(results.scores)
    if main_folder is not None:
        record = {
            "seconds": round(time.monotonic() - began, 3),
            **describe_training(trainer),
            **describe_model(assembly, start),
            "predict_rows_per_second": results.rows_per_second,
            "predicted_split": results.splits,
            "fitted_on_dev": results.fitted,
            "notes": [f"{note.place}: {note.message}" for note in assembly.notes],
            "versions": versions(),
            "processes": world.size,
            **(extra(results) if extra is not None else {}),
        }
        with kept_for_resume(main_folder):
            write_json(main_folder / "run.json", record)
            write_results(main_folder, assembly, results)
            save_bundle(main_folder / "model", bundle)  # last: its folder says that the run is complete
        shutil.rmtree(main_folder / "checkpoints", ignore_errors=True)
    stages = trainer.state.stages.to_json()
    model = model_of(bundle, str(whole.device))
    return Run(folder, model, results.scores, results.baselines, results.intervals, stages)


@contextmanager
def kept_for_resume(folder: Path) -> Generator[None]:
    """Turn what keeps a trained run from being written into a TrainingError: nothing is lost, and it can go on."""
    try:
        yield
    except (OSError, OutputError) as error:
        told = str(error) if isinstance(error, OutputError) else f"{folder}: cannot be written ({reason(error)})"
        raise TrainingError(f"{told}; the checkpoints are kept: free space, and go on with --resume") from None


def tell_fitted(assembly: Assembly, world: World) -> Assembly:
    """Give every process the tasks as the first one fitted them on dev."""
    told = world.broadcast({name: task.to_json() for name, task in assembly.tasks.items()})
    if world.is_main:
        return assembly
    assert isinstance(told, dict)
    return replace(
        assembly, tasks={name: TASKS[assembly.tasks[name].type_name].from_json(name, one) for name, one in told.items()}
    )


def describe_training(trainer: Trainer) -> dict[str, Any]:
    """Return how long the run was, what each task has seen, and how the model was chosen."""
    snapshots = trainer.state.snapshots
    return {
        "steps": trainer.state.step,
        "best_step": snapshots.selection.best_step,
        "best_step_by_task": {task: found.step for task, found in snapshots.by_task.items()},
        "selection": snapshots.selection.rule.to_json(),
        "pareto": pareto(snapshots.evaluations),
        "stages": trainer.state.stages.to_json(),
        "exposure": trainer.state.exposure.to_json(),
    }


def save_best_of_each_task(assembly: Assembly, snapshots: Snapshots, folder: Path, world: World) -> None:
    """Save the model of each task's best evaluation under the task's name; the first process writes."""
    folder.mkdir(exist_ok=True)
    for task, found in snapshots.by_task.items():
        snapshots.load(assembly.model, task)
        fitted, on_dev = fit_run(assembly)
        dev = {**found.dev, **fitted.scorer().scores_of(on_dev)}
        bundle = fitted.gathered().bundle({"dev": dev})
        if world.is_main:
            shutil.rmtree(folder / task, ignore_errors=True)  # of a run that was interrupted here
            save_bundle(folder / task, bundle)
