"""Adding tasks to a trained model, or layers to its tasks, with its weights frozen or training along on old rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from polytask.api import as_config
from polytask.artifact.bundle import Bundle
from polytask.artifact.description import model_folder, read_description
from polytask.artifact.folder import load_bundle
from polytask.assemble import compose
from polytask.assembly import Assembly, ExtendedModel
from polytask.config import Config
from polytask.data.prepare import DataTables, read_tables
from polytask.errors import ConfigError
from polytask.evaluation.scoring import Scorer
from polytask.model.device import choose_device
from polytask.model.family import family_in
from polytask.model.growth import extended
from polytask.model.parameters import train_only
from polytask.on_encoder import on_encoder, require_one_set
from polytask.results import RunResults
from polytask.run import Run, assemble_together, run_assembly
from polytask.schedule import waves
from polytask.sharing.growth import ExtendOptions, grow
from polytask.sharing.sharing import require_task
from polytask.tasks import TASKS, Task, TaskOptions, head_specs, require_readable
from polytask.tasks.alike import label_differences
from polytask.terms import DataWarning, HeadSpec, Scores
from polytask.training.distribution import join_world

Mode: TypeAlias = Literal["frozen", "joint"]


def extend(
    model: str | PathLike[str],
    config: str | Path | Config | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    mode: Mode = "frozen",
    resume: bool = False,
    overrides: Sequence[str] = (),
) -> Run:
    """Add the tasks of a configuration to a trained model, and return the run.

    Args:
        model: a run that was written into a folder, its folder, or a model folder; it is not changed.
        config: the new tasks with their rows; with "joint" also old tasks with rows, which are replayed, or old tasks
            alone, which continue to train.
        out: folder of the new run; without it nothing is written.
        mode: frozen: the weights of the old tasks and thus their predictions do not change, except those of the tasks
            in `extend.own`; joint: everything trains.
        resume: continue from the newest checkpoint in `out`.
        overrides: changes to the configuration, such as "train.epochs=1".

    Raises:
        UserError: the input is invalid; nothing has been trained.
    """
    checked = as_config(config, overrides)
    home = model_folder(model)
    folder = None if out is None else Path(out)
    with join_world(choose_device(checked.train.device)) as world, ExitStack() as stack:
        build = partial(assemble_extension, home, mode=mode)
        assembly = assemble_together(checked, folder, world, stack, build, resume=resume)
        extended_by = assembly.extended
        assert extended_by is not None
        before = score_old(assembly) if world.is_main else {}

        def describe(results: RunResults) -> dict[str, Any]:
            after = {
                split: {task: results.scores[split][task] for task in old_scores}
                for split, old_scores in before.items()
            }
            return {"extended": {**extended_by.to_json(assembly.tasks), "before": before, "after": after}}

        return run_assembly(assembly, world, folder, resume=resume, extra=describe, before=before)


def score_old(assembly: Assembly) -> dict[str, Scores]:
    """Score the old tasks that have rows, on dev and test, with the model before training and as it decides."""
    assert assembly.extended is not None
    old = {name: task for name, task in assembly.extended.tasks.items() if name in assembly.tasks}
    if not old:
        return {}
    # The run's own tasks are not fitted on dev yet.
    scorer, engine = Scorer({**assembly.tasks, **old}), assembly.engine(assembly.model.to(assembly.device))
    scores_by_split: dict[str, Scores] = {}
    for split in ("dev", "test"):
        chosen = [source for source in assembly.sources[split] if not old.keys().isdisjoint(source.tasks)]
        scores = scorer.scores(engine, chosen)
        if chosen:
            scores_by_split[split] = {task: scores[task] for task in assembly.tasks if task in old and task in scores}
    return scores_by_split


def assemble_extension(home: Path, config: Config, *, mode: Mode) -> Assembly:
    """Build the run that extends a model, ready for its first step. Raises UserError for any problem with the input."""
    if mode not in ("frozen", "joint"):
        raise ConfigError(f"mode: found {mode!r}; accepted: frozen, joint")
    bundle, digest = load_bundle(home), read_description(home).digest
    config = fitting(config, bundle, home, mode)
    options = config.extend or ExtendOptions()
    new = _new_tasks(config, options, bundle, home, mode)
    growth = grow(bundle.model.sharing, new, options)
    _require_own_rows(config, options, bundle, mode)
    require_one_set(growth.plan != growth.joined.plan, family_in(bundle.model.config), "extend.shared_layers")
    readable = _readable(config, bundle, mode)
    require_readable(readable, {name: TASKS[task.type].level for name, task in readable.items()})
    waves({name: task.needs for name, task in readable.items()})
    with config.at_its_line():
        tables = read_tables(config.tasks)
    tables = replace(tables, tasks=on_encoder(tables.tasks, bundle.model.config))
    tables = replace(tables, tasks={name: _task(name, bundle, tables) for name in config.tasks})
    torch.manual_seed(config.train.seed)  # the new heads' first weights
    heads = head_specs({**bundle.tasks, **tables.tasks})
    _require_same_heads(bundle, tables.tasks)
    model = extended(bundle.model, growth, heads)
    if mode == "frozen":
        train_only(model, [*new, *options.own])
    kept = [name for name in bundle.tasks if name not in config.tasks]
    scores: Mapping[str, Scores] = bundle.about.get("scores", {}) if mode == "frozen" else {}
    data: Mapping[str, Any] = bundle.about.get("data", {})
    before = ExtendedModel(str(home), digest, mode, bundle.tasks, scores, notes(kept, mode), data, options.own)
    return compose(config, tables, bundle.tokenizer, model, choose_device(config.train.device), before)


def notes(kept: Sequence[str], mode: Mode) -> tuple[DataWarning, ...]:
    """Return a note on the old tasks that train without rows."""
    if not kept or mode == "frozen":
        return ()
    return (
        DataWarning(
            "extend",
            f"{', '.join(kept)}: no rows here, so the heads stay as they are while the layers below them train; "
            "their scores may fall: give these tasks rows to replay, or use the mode frozen",
        ),
    )


def fitting(config: Config, bundle: Bundle, home: Path, mode: Mode) -> Config:
    """Fill in options from the model. Raises ConfigError if the configuration contradicts it."""
    encoder = str(bundle.about.get("encoder", home))
    folders = {home.resolve(), home.resolve().parent}
    if config.encoder != encoder and Path(config.encoder).resolve() not in folders:
        raise ConfigError(
            f"encoder: found {config.encoder!r}, but the model is built on {encoder!r}; "
            "give that, or the model's folder"
        )
    if "sharing" in config.model_fields_set:
        raise ConfigError(
            "sharing: found a plan, but an extended model keeps its own; leave it out, and set under `extend:` "
            "where the new tasks' own layers begin: extend: {shared_layers: 4, kind: lora}"
        )
    if "max_tokens" in config.model_fields_set and config.max_tokens != bundle.max_tokens:
        raise ConfigError(
            f"max_tokens: found {config.max_tokens}, but the model reads {bundle.max_tokens}; leave it out"
        )
    precision = config.train.precision
    if "precision" not in config.train.model_fields_set:
        precision = bundle.precision
    elif mode == "frozen" and precision != bundle.precision:
        raise ConfigError(
            f"train.precision: found {precision}, but the old tasks answer in {bundle.precision}, which may not change "
            "in the mode frozen; leave it out"
        )
    train = config.train.model_copy(update={"precision": precision})
    return config.model_copy(update={"encoder": encoder, "max_tokens": bundle.max_tokens, "train": train})


def _new_tasks(config: Config, options: ExtendOptions, bundle: Bundle, home: Path, mode: Mode) -> list[str]:
    for name in options.own:
        require_task(name, list(bundle.tasks), "extend.own")
    new = [name for name in config.tasks if name not in bundle.tasks]
    clash = [name for name in config.tasks if name in bundle.tasks]
    frozen = [name for name in clash if name not in options.own] if mode == "frozen" else []
    if frozen:
        raise ConfigError(
            f"tasks.{frozen[0]}: {home} has a task of this name, and old tasks do not train in the mode frozen; "
            "rename it, leave it out, give it layers of its own with extend.own, or use the mode joint, in which its "
            "rows are replayed"
        )
    if not new and not options.own and config.extend is not None:
        raise ConfigError(
            f"extend: found, but {home} already has all of these tasks ({', '.join(clash)}), so there is no new task "
            "whose layers it could describe; leave it out"
        )
    return new


def _require_own_rows(config: Config, options: ExtendOptions, bundle: Bundle, mode: Mode) -> None:
    """Raise ConfigError if an old task that gets its own layers cannot train, or must not."""
    for name in options.own:
        if name not in config.tasks:
            raise ConfigError(
                f"extend.own: found {name}, which has no rows here; add it to `tasks`, as the model was trained on it"
            )
        readers = [other for other, task in bundle.tasks.items() if name in task.options.reads]
        if readers and mode == "frozen":
            raise ConfigError(
                f"extend.own: found {name}, whose predictions {', '.join(readers)} reads, and predictions of other "
                "tasks may not change in the mode frozen; use the mode joint"
            )


def _readable(config: Config, bundle: Bundle, mode: Mode) -> dict[str, TaskOptions]:
    """Return the options of the tasks that those of the configuration may need and read.

    In the mode frozen these include the model's tasks, which go on predicting as they do. Raises ConfigError in the
    mode joint for one without rows: it would change without being trained.
    """
    if mode == "frozen":
        return {**{name: task.options for name, task in bundle.tasks.items()}, **config.tasks}
    for name, task in config.tasks.items():
        absent = [other for other in task.needs if other in bundle.tasks and other not in config.tasks]
        if absent:
            raise ConfigError(
                f"tasks.{name}.needs: found {absent[0]!r}, a task of the model without rows here, whose predictions "
                "would change untrained in the mode joint; add it to `tasks`, as the model was trained on it"
            )
    return dict(config.tasks)


def _task(name: str, bundle: Bundle, tables: DataTables) -> Task:
    """Return a new task fitted to its rows, or an old one as stored in the model, with the current options.

    Values fitted on dev are fitted again, since the model continues to train.
    """
    fresh = tables.tasks[name]
    if name not in bundle.tasks:
        return fresh
    old = bundle.tasks[name]
    unknown = [label for label in fresh.labels if label not in old.labels]
    different = label_differences(old, fresh) if unknown or fresh.type_name != old.type_name else []
    if different:
        raise ConfigError(
            f"tasks.{name}: its rows do not fit the model's task (named first below): {'; '.join(different)}; "
            "replay rows of the same labels, or give the task another name"
        )
    options = fresh.options.model_dump(mode="json", exclude={"data"})
    options["data"] = {"offsets": fresh.options.data.offsets}
    return TASKS[old.type_name].from_json(name, {**old.unfitted().to_json(), "options": options})


def _require_same_heads(bundle: Bundle, tasks: Mapping[str, Task]) -> None:
    """Raise ConfigError if an old task asks for a different head than the trained one."""
    specs = head_specs({**bundle.tasks, **tasks})
    for name, old in head_specs(bundle.tasks).items():
        if replace(specs[name], dropout=old.dropout) != old:
            raise ConfigError(
                f"tasks.{name}: its head would differ from the trained one; {'; '.join(_differences(specs[name], old))}"
            )


def _differences(new: HeadSpec, old: HeadSpec) -> Iterator[str]:
    """Yield what differs between the heads that a task asks for and has, by the options that say it."""
    names, old_names = ([reading.task for reading in spec.reads] for spec in (new, old))
    if names != old_names:
        listed = ", ".join(old_names)
        fix = f"add needs: [{listed}] and reads: [{listed}]" if old_names else "leave reads out"
        yield f"reads: found {', '.join(names) or 'none'}, and the model was trained with {listed or 'none'}: {fix}"
    elif new.reads != old.reads:
        detach, old_detach = (json.dumps(spec.reads[0].detach) for spec in (new, old))
        yield f"detach_reads: found {detach}; give {old_detach}, with which the model was trained"
    for name in ("pooling", "head", "level", "size", "pairs", "chained"):
        value, old_value = getattr(new, name), getattr(old, name)
        if value != old_value:
            yield f"{name}: found {value}; give {old_value}, with which the model was trained"
