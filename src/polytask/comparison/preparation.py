"""Preparation of the arms: assembles each once, checks it against the configuration, and computes its hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.comparison.arms import BASELINE, Arm, build_arms, with_train
from polytask.comparison.budget import Budget, planned
from polytask.comparison.predictions import ArmPredictions, Measure
from polytask.comparison.unequal import RowPlan, UnequalRows, unequal_rows
from polytask.config import Config, with_fold
from polytask.data.cache import file_digest, key_of
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError, UserError
from polytask.evaluation.scoring import truth_of
from polytask.model.loading import locate
from polytask.model.parameters import sharing_tasks
from polytask.terms import Label
from polytask.training.options import TrainOptions

_ENCODER_FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json")


@dataclass(frozen=True)
class TaskScoring:
    """Everything that a task's scores depend on: its main metric, its level, and the labels of the scored rows.

    Attributes:
        measure: turns labels, predictions and probabilities into the truth and predictions that the metric takes.
    """

    metric: str
    level: Any
    labels: tuple[Label, ...]
    measure: Measure = field(compare=False)

    def measured(self, answers: Mapping[str, ArmPredictions]) -> dict[str, ArmPredictions]:
        """Return the predictions of the arms in the form that the metric takes."""
        return {arm: predictions.measured(self.measure) for arm, predictions in answers.items()}


# Single models with less than this share of the configured epochs are named.
SHORT = 0.75


@dataclass(frozen=True)
class ArmModel:
    """One model of an arm, ready to train with any seed.

    Attributes:
        label: name of its run folders.
        config: its configuration.
        data: hashes of the rows of each split.
        content: what determines its weights, in addition to the options and the data.
        judged: scoring of each task.
        shares: whether any parameter is trained by several tasks.
        fold: fold of the training rows that it predicts instead of test rows; 0 for none.
    """

    label: str
    config: Config
    data: list[Any]
    content: tuple[Any, ...]
    judged: Mapping[str, TaskScoring]
    shares: bool
    fold: int = 0

    def seeded(self, seed: int, teachers: Sequence[Path] = ()) -> PlannedRun:
        """Return the run with a seed and, if any, teachers."""
        hashed = with_train(self.config, seed=seed)
        config = with_train(hashed, teachers=[str(folder.resolve()) for folder in teachers]) if teachers else hashed
        # A teacher counts by the name of its folder, which contains its hash, and not by the path of the folder.
        teacher_ids = [folder.name.rpartition("-")[2] for folder in teachers]
        values = hashed.to_json()
        tasks = {name: {**task, "data": None} for name, task in values["tasks"].items()}
        # A JSON object has no order, but the order of the tasks determines the initial weights of the heads.
        options = {**values, "tasks": tasks, "encoder": None}
        identity = key_of(options, list(tasks), teacher_ids, self.data, *self.content)[:12]
        return PlannedRun(self.label, identity, config, self.fold)


@dataclass(frozen=True)
class PlannedRun:
    """A run to train, or to reuse."""

    label: str
    identity: str
    config: Config
    fold: int = 0


@dataclass(frozen=True)
class Prepared:
    """An arm whose models are all ready for their first step.

    Attributes:
        parts: its models, ordered by fold.
        unequal: the tasks of which it trains on another number of rows than their single models.
    """

    arm: Arm
    parts: tuple[ArmModel, ...]
    unequal: UnequalRows = field(default_factory=UnequalRows)

    @property
    def shares(self) -> bool:
        """Whether it can be recommended as a way to share."""
        return self.arm.answers and self.arm.name != BASELINE and any(part.shares for part in self.parts)


def prepare(
    config: Config, chosen: Sequence[str], named: Mapping[str, Sequence[str]], folds: int = 0
) -> dict[str, Prepared]:
    """Build and check every arm. Raises UserError naming the arm; nothing has been trained yet.

    Args:
        config: the configuration.
        chosen: names of the arms.
        named: overrides of variants by name.
        folds: number of folds of the training rows that replace test rows; 0 for the test rows themselves.
    """
    prepared: dict[str, Prepared] = {}
    for fold in range(1, folds + 1) if folds else (0,):
        for name, arm in _prepared(with_fold(config, fold, folds) if fold else config, chosen, named, fold).items():
            before = prepared.get(name)
            prepared[name] = arm if before is None else replace(before, parts=(*before.parts, *arm.parts))
    if prepared and not any(arm.shares for arm in prepared.values()):
        raise ConfigError(
            f"--arms: found {', '.join(prepared)}, but none of them shares anything; add global, or another that does"
        )
    return prepared


def data_of(prepared: Mapping[str, Prepared]) -> str:
    """Return a hash of the rows that the single models read, which are those of the configuration."""
    return key_of([part.data for part in prepared[BASELINE].parts])


def short_notes(alone: Mapping[str, float], train: TrainOptions) -> list[str]:
    """Return a note on tasks whose single models train for clearly fewer epochs than the configuration says.

    Args:
        alone: epochs of each task's single model.
        train: training options of the configuration; `max_steps` shortens joint models too, so nothing is said of it.
    """
    short = [f"{task} {found:.2f}" for task, found in alone.items() if found < SHORT * train.epochs]
    if not short or train.max_steps is not None:
        return []
    return [
        "single models see as many rows of their task as the joint model, which for some is clearly less than "
        f"train.epochs = {train.epochs:g}: {', '.join(short)} epochs"
    ]


def fold_notes(config: Config) -> list[str]:
    """Return notes on what else may have seen the rows of a fold."""
    if not config.train.teachers:
        return []
    return ["train.teachers: teachers that were trained on these rows have seen the folds that their students predict"]


def _prepared(
    config: Config, chosen: Sequence[str], named: Mapping[str, Sequence[str]], fold: int
) -> dict[str, Prepared]:
    """Build and check every arm's models of a fold."""
    joint = assemble(config)
    expected, budget = judged_by(joint), planned(joint)
    models = {str(config.to_json()): (part_of("config", joint), budget)}
    del joint
    prepared: dict[str, Prepared] = {}
    alone: dict[str, int] = {}
    for name, arm in build_arms(config, budget, chosen, named).items():
        try:
            assembled = [_assembled_once(label, part, models) for label, part in arm.parts.items()]
        except UserError as error:
            raise type(error)(f"arm {name!r}: {error}") from None
        parts = tuple(replace(model, fold=fold) for model, _ in assembled)
        _require_same(name, arm, parts, expected)
        if name == BASELINE:  # always the first
            alone = {task: rows for _, own in assembled for task, rows in own.rows.items()}
        prepared[name] = Prepared(arm, parts, _unequal(config, budget, arm, assembled, alone))
    return prepared


def _unequal(
    config: Config, budget: Budget, arm: Arm, assembled: Sequence[tuple[ArmModel, Budget]], alone: Mapping[str, int]
) -> UnequalRows:
    """Return the tasks of which an arm of one model trains on another number of rows than their single models."""
    if arm.name == BASELINE or not arm.answers:
        return UnequalRows()
    ((model, own),) = assembled
    plans = RowPlan.of(own, model.config.train.epochs), RowPlan.of(budget, config.train.epochs)
    return unequal_rows(*plans, alone, same_schedule=model.config.schedule == config.schedule)


def _assembled_once(label: str, config: Config, models: dict[str, tuple[ArmModel, Budget]]) -> tuple[ArmModel, Budget]:
    """Return the model of a configuration and its budget; it is assembled only once even if several arms use it."""
    key = str(config.to_json())
    if key not in models:
        assembly = assemble(config)
        models[key] = part_of(label, assembly), planned(assembly)
    model, budget = models[key]
    return replace(model, label=label, config=config), budget


def part_of(label: str, assembly: Assembly) -> ArmModel:
    """Return the model of an arm from its assembly."""
    tables = assembly.tables.tables
    digests = [
        (split, list(table.feed.tasks), table.feed.content())
        for split, split_tables in tables.items()
        for table in split_tables
    ]
    tokens = Tokenization.of(assembly.tokenizer, assembly.config.max_tokens).fingerprint
    content = (_encoder(assembly.config.encoder), tokens, assembly.model.sharing.to_json())
    shares = bool(sharing_tasks(assembly.model))
    return ArmModel(label, assembly.config, digests, content, judged_by(assembly), shares)


def _encoder(name: str) -> Any:  # noqa: ANN401
    """Return the identity of an encoder: its files, or its name on the hub."""
    folder = Path(locate(name))
    if not folder.is_dir():
        return name
    return [file_digest(folder / file) for file in _ENCODER_FILES if (folder / file).is_file()]


def judged_by(assembly: Assembly) -> dict[str, TaskScoring]:
    """Return the scoring of each task: on its test rows, or its dev rows if there are none."""
    scorings: dict[str, TaskScoring] = {}
    for name, task in assembly.tasks.items():
        if not task.answers:
            continue
        sources = [
            source for split in ("test", "dev") for source in assembly.sources[split] if name in source.tasks
        ]  # fmt: skip
        measure = partial(task.measured_by, task.metric)
        scorings[name] = TaskScoring(task.metric, task.level, tuple(truth_of(task, sources[0])), measure)
    return scorings


def _require_same(name: str, arm: Arm, parts: Sequence[ArmModel], expected: Mapping[str, TaskScoring]) -> None:
    """Raise ConfigError unless an arm predicts the tasks of the configuration, scored on the same rows."""
    judged = {task: scoring for part in parts for task, scoring in part.judged.items()}
    if set(judged) != set(expected) and arm.answers:
        raise ConfigError(
            f"arm {name!r}: found the tasks {', '.join(judged)}; expected those of the configuration: "
            f"{', '.join(expected)}"
        )
    for task, scoring in judged.items():
        if scoring.metric != expected[task].metric:
            raise ConfigError(
                f"arm {name!r}: {task!r} is scored by {scoring.metric}, but its baseline by {expected[task].metric}; "
                "leave the metric out of the arm, and set it for all with --set"
            )
        if scoring.labels != expected[task].labels:
            raise ConfigError(
                f"arm {name!r}: {task!r} is scored on other rows or labels than its baseline, "
                "so they cannot be compared: leave the data out of the arm"
            )
