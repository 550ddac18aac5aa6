"""Before anything trains: every arm is assembled once, checked against the configuration, and given its hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.comparison.arms import BASELINE, Arm, build_arms, with_train
from polytask.comparison.budget import planned
from polytask.comparison.predictions import ArmPredictions, Measure
from polytask.config import Config, with_fold
from polytask.data.cache import file_digest, key_of
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError, UserError
from polytask.evaluation.scoring import truth_of
from polytask.model.loading import locate
from polytask.model.parameters import sharing_tasks
from polytask.terms import Label

_ENCODER_FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json")


@dataclass(frozen=True)
class TaskScoring:
    """What a task's scores are made of: its main metric, its level, and the labels that it is scored against.

    Attributes:
        measure: turns labels, predictions and probabilities into the truth and the predictions that the metric takes.
    """

    metric: str
    level: Any
    labels: tuple[Label, ...]
    measure: Measure = field(compare=False)

    def measured(self, answers: Mapping[str, ArmPredictions]) -> dict[str, ArmPredictions]:
        """Return the answers of arms as the metric takes them."""
        return {arm: found.measured(self.measure) for arm, found in answers.items()}


@dataclass(frozen=True)
class ArmModel:
    """One model of an arm, ready to be trained with any seed.

    Attributes:
        label: names its run folders.
        content: what determines its weights, beside the options.
        judged: by task.
        shares: whether tasks train any parameter together.
        fold: of the training rows, which it answers in place of test rows; 0 where there are none.
    """

    label: str
    config: Config
    content: tuple[Any, ...]
    judged: Mapping[str, TaskScoring]
    shares: bool
    fold: int = 0

    def seeded(self, seed: int, teachers: Sequence[Path] = ()) -> PlannedRun:
        """Return the run with a seed, and with teachers where it has some."""
        hashed = with_train(self.config, seed=seed)
        config = with_train(hashed, teachers=[str(folder.resolve()) for folder in teachers]) if teachers else hashed
        # Of a teacher counts what determines it, which its folder is named after, and not where the folder lies.
        teacher_ids = [folder.name.rpartition("-")[2] for folder in teachers]
        values = hashed.to_json()
        tasks = {name: {**task, "data": None} for name, task in values["tasks"].items()}
        # A dict has no order in JSON, and the order of the tasks is that of the heads' first weights.
        identity = key_of({**values, "tasks": tasks, "encoder": None}, list(tasks), teacher_ids, *self.content)[:12]
        return PlannedRun(self.label, identity, config, self.fold)


@dataclass(frozen=True)
class PlannedRun:
    """A run to be trained, or found."""

    label: str
    identity: str
    config: Config
    fold: int = 0


@dataclass(frozen=True)
class Prepared:
    """An arm whose models are all ready for their first step.

    Attributes:
        parts: those of a fold lie together.
    """

    arm: Arm
    parts: tuple[ArmModel, ...]

    @property
    def shares(self) -> bool:
        """Whether it can be recommended as a way to share."""
        return self.arm.answers and self.arm.name != BASELINE and any(part.shares for part in self.parts)


def prepare(
    config: Config, chosen: Sequence[str], named: Mapping[str, Sequence[str]], folds: int = 0
) -> dict[str, Prepared]:
    """Build and check every arm. Raises UserError naming the arm; nothing has been trained by then.

    Args:
        folds: parts of the training rows that take the place of test rows; 0 for the test rows themselves.
    """
    prepared: dict[str, Prepared] = {}
    for fold in range(1, folds + 1) if folds else (0,):
        for name, found in _prepared(with_fold(config, fold, folds) if fold else config, chosen, named, fold).items():
            before = prepared[name].parts if name in prepared else ()
            prepared[name] = Prepared(found.arm, (*before, *found.parts))
    if prepared and not any(found.shares for found in prepared.values()):
        raise ConfigError(
            f"--arms: found {', '.join(prepared)}, and none of them shares anything; add global, or another that does"
        )
    return prepared


def doubts_of_folds(config: Config) -> list[str]:
    """Say what may have seen the rows of a fold beside the models that answer them."""
    if not config.train.teachers:
        return []
    return ["train.teachers: teachers that were trained on these rows know the folds that their students answer"]


def _prepared(
    config: Config, chosen: Sequence[str], named: Mapping[str, Sequence[str]], fold: int
) -> dict[str, Prepared]:
    """Build and check every arm's models of a fold."""
    joint = assemble(config)
    expected, budget = judged_by(joint), planned(joint)
    known = {str(config.to_json()): part_of("config", joint)}
    del joint
    prepared: dict[str, Prepared] = {}
    for name, arm in build_arms(config, budget, chosen, named).items():
        try:
            parts = tuple(replace(_known(label, part, known), fold=fold) for label, part in arm.parts.items())
        except UserError as error:
            raise type(error)(f"arm {name!r}: {error}") from None
        _require_same(name, arm, parts, expected)
        prepared[name] = Prepared(arm, parts)
    return prepared


def _known(label: str, config: Config, known: dict[str, ArmModel]) -> ArmModel:
    """Assemble each configuration once, whatever the arms are called."""
    key = str(config.to_json())
    if key not in known:
        known[key] = part_of(label, assemble(config))
    found = known[key]
    return ArmModel(label, config, found.content, found.judged, found.shares)


def part_of(label: str, assembly: Assembly) -> ArmModel:
    """Return what an arm knows of a model that was assembled."""
    tables = assembly.tables.tables
    digests = [
        (split, list(table.feed.tasks), table.feed.content()) for split, found in tables.items() for table in found
    ]
    tokens = Tokenization.of(assembly.tokenizer, assembly.config.max_tokens).fingerprint
    content = (digests, _encoder(assembly.config.encoder), tokens, assembly.model.sharing.to_json())
    return ArmModel(label, assembly.config, content, judged_by(assembly), bool(sharing_tasks(assembly.model)))


def _encoder(name: str) -> Any:  # noqa: ANN401
    """Identify an encoder by its files, or by its name on the hub."""
    folder = Path(locate(name))
    if not folder.is_dir():
        return name
    return [file_digest(folder / file) for file in _ENCODER_FILES if (folder / file).is_file()]


def judged_by(assembly: Assembly) -> dict[str, TaskScoring]:
    """Return what each task is scored by: its test rows, or its dev rows where there are none."""
    found: dict[str, TaskScoring] = {}
    for name, task in assembly.tasks.items():
        if not task.answers:
            continue
        sources = [
            source for split in ("test", "dev") for source in assembly.sources[split] if name in source.tasks
        ]  # fmt: skip
        measure = partial(task.measured_by, task.metric)
        found[name] = TaskScoring(task.metric, task.level, tuple(truth_of(task, sources[0])), measure)
    return found


def _require_same(name: str, arm: Arm, parts: Sequence[ArmModel], expected: Mapping[str, TaskScoring]) -> None:
    """Raise ConfigError unless an arm answers the tasks of the configuration, scored on the same rows."""
    judged = {task: found for part in parts for task, found in part.judged.items()}
    if set(judged) != set(expected) and arm.answers:
        raise ConfigError(
            f"arm {name!r}: found the tasks {', '.join(judged)}; expected those of the configuration: "
            f"{', '.join(expected)}"
        )
    for task, found in judged.items():
        if found.metric != expected[task].metric:
            raise ConfigError(
                f"arm {name!r}: {task!r} is scored by {found.metric}, and its baseline by {expected[task].metric}; "
                "leave the metric out of the arm, and set it for all with --set"
            )
        if found.labels != expected[task].labels:
            raise ConfigError(
                f"arm {name!r}: {task!r} is scored on other rows or labels than its baseline; "
                "baselines of another data set compare with nothing: leave the data out of the arm"
            )
