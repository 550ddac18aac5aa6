"""A run, ready for its first step: all parts of it, and what is built of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polytask.artifact.bundle import Bundle, as_learned
from polytask.artifact.pruning import pruned
from polytask.balance import Balancer
from polytask.config import Config
from polytask.data.cache import key_of
from polytask.data.collator import Collator
from polytask.data.encode import Source
from polytask.data.masking import Masker
from polytask.data.prepare import (
    DataTables,
    task_facts,
)
from polytask.data.stream import Streams
from polytask.data.tokens import Tokenization
from polytask.evaluation.scoring import Scorer, normalised
from polytask.model.device import pass_overhead
from polytask.model.engine import TorchEngine
from polytask.model.loading import pad_id
from polytask.model.multitask import MultiTaskModel
from polytask.model.sharding import gathered, shard
from polytask.schedule import Schedule, Workload
from polytask.sharing import SharingPolicy
from polytask.tasks import Task, head_specs
from polytask.teacher_file import FileTeacher
from polytask.teachers import Teacher, add_teacher_outputs
from polytask.terms import DataWarning, Scores, Split
from polytask.training.checkpoint import Checkpoints
from polytask.training.checkpoint_files import ShardFiles, WholeFiles
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer
from polytask.training.parts import TrainerParts
from polytask.training.recipe import ResolvedOption
from polytask.training.selection import DevScores, Rule
from polytask.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows of similar length that the stream keeps together: a fraction of a batch, so that its tasks still mix.
BLOCK_ROWS = 8


@dataclass(frozen=True)
class ExtendedModel:
    """The trained model that a run adds tasks to.

    Attributes:
        model: where it lies.
        digest: hash of its weights.
        mode: whether what its tasks use is frozen, or trains as well (joint).
        tasks: its tasks, as it knows them.
        scores: those of its scores that stay as they are.
        data: for each of its tasks the rows and labels that it was trained on.
    """

    model: str
    digest: str
    mode: str
    tasks: Mapping[str, Task]
    scores: Mapping[str, Scores]
    notes: tuple[DataWarning, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def all_tasks(self, trained: Mapping[str, Task]) -> dict[str, Task]:
        """Return old and new tasks, the old ones first."""
        return {**self.tasks, **trained}

    def all_scores(self, new_scores: Mapping[str, Scores]) -> dict[str, Scores]:
        """Return what was scored now beside the scores that stay."""
        splits = dict.fromkeys([*self.scores, *new_scores])
        return {split: {**self.scores.get(split, {}), **new_scores.get(split, {})} for split in splits}

    def to_json(self, trained: Mapping[str, Task]) -> dict[str, Any]:
        """Return what was extended, and which tasks are new, were replayed, or were kept without rows."""
        return {
            "model": self.model,
            "mode": self.mode,
            "new": [task for task in trained if task not in self.tasks],
            "replayed": [task for task in trained if task in self.tasks],
            "kept": [task for task in self.tasks if task not in trained],
        }


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A run, ready for its first step: all that can be wrong with the input has been found by now."""

    config: Config
    tasks: Mapping[str, Task]
    tables: DataTables
    sources: Mapping[Split, tuple[Source, ...]]
    tokenizer: PreTrainedTokenizerBase
    model: MultiTaskModel
    policy: SharingPolicy | None
    workload: Workload
    rule: Rule
    notes: tuple[DataWarning, ...]
    device: torch.device
    teachers: tuple[Teacher | FileTeacher, ...] = ()
    extended: ExtendedModel | None = None
    choices: tuple[ResolvedOption, ...] = ()

    @cached_property
    def identity(self) -> str:
        """A hash of all that determines the run's weights; of teachers what they answer by, wherever they lie."""
        digests = [table.digest for found in self.tables.tables.values() for table in found]
        models = [teacher.digest for teacher in self.teachers]
        if self.extended is not None:
            models += [self.extended.mode, self.extended.digest]
        tokens = Tokenization.of(self.tokenizer, self.config.max_tokens).fingerprint
        config = self.config.to_json()
        config["train"]["teachers"] = len(self.teachers)
        return key_of(config, digests, tokens, self._encoder(), *models)

    def _encoder(self) -> dict[str, Any]:
        """Return what makes the encoder compute as it does, beside its weights, which a checkpoint holds."""
        values = self.model.config.to_dict()
        return {key: value for key, value in values.items() if key not in ("_name_or_path", "transformers_version")}

    def train_sources(self, world: World) -> tuple[Source, ...]:
        """Return the training rows, with the teachers' answers where there are teachers."""
        sources = self.sources["train"]
        if not self.teachers:
            return sources
        if not world.is_main:
            world.broadcast(None)  # the first process fills the cache
        found = add_teacher_outputs(
            sources, self.tables.tables["train"], self.tasks, self.teachers, self.device, show=world.is_main
        )
        if world.is_main:
            world.broadcast(None)
        return found

    def checkpoints(self, folder: Path, world: World) -> Checkpoints:
        """Return the checkpoints of this run in its folder."""
        files = ShardFiles(world) if self.config.train.fsdp else WholeFiles()
        return Checkpoints(folder / "checkpoints", self.identity, self.config.train.save_total_limit, files)

    def collator(self) -> Collator:
        """Return what builds batches."""
        overhead = pass_overhead(self.device)
        return Collator(self.tasks, pad_id(self.tokenizer), self.model.uses_type_ids, overhead, self._masker)

    @cached_property
    def _masker(self) -> Masker | None:
        """What hides words, where a task guesses them."""
        if all(task.mask_rate is None for task in self.tasks.values()):
            return None
        vocabulary = len(next(iter(self.model.word_embeddings().values())))
        return Masker.of(self.tokenizer, vocabulary, self.config.train.seed)

    def scorer(self) -> Scorer:
        """Return what predicts and scores rows."""
        return Scorer(self.tasks)

    def engine(self, model: MultiTaskModel | None = None) -> TorchEngine:
        """Return what runs the model, or another one of the same tasks, as it is now."""
        heads = {name: task.head for name, task in self.tasks.items()}
        precision = self.config.train.precision
        return TorchEngine(model or self.model, heads, self.collator(), self.device, precision)

    def schedule(self) -> Schedule:
        """Build the schedule of this run, before its first step."""
        return self.config.schedule.build(self.workload)

    def trainer(self, world: World, folder: Path | None, events: Events) -> Trainer:
        """Build the trainer of this run."""
        options = self.config.train
        sources = self.train_sources(world)
        # Different task sets must meet different blocks, the same seed the same ones.
        streams = Streams(sources, seed=options.seed, block=BLOCK_ROWS)
        weights = {name: task.weight for name, task in self.config.tasks.items()}
        if options.fsdp and world.size > 1:
            shard(self.model, self.device, options.precision, world.size)
        parts = TrainerParts(
            model=self.model.to(self.device),
            tasks=self.tasks,
            sources=sources,
            streams=streams,
            collator=self.collator(),
            schedule=self.schedule(),
            balancer=Balancer(self.config.balance, weights, options.seed),
            policy=self.policy,
            evaluate=dev_evaluation(self),
            rule=self.rule,
            options=options,
            device=self.device,
            world=world,
            checkpoints=None if folder is None else self.checkpoints(folder, world),
            events=events,
        )
        return Trainer(parts)

    def gathered(self) -> Assembly:
        """Return the run with an ordinary model where it was sharded. All processes call it together."""
        if not self.model.sharded:
            return self
        tasks = self.tasks if self.extended is None else self.extended.all_tasks(self.tasks)
        # The whole model may not fit the device.
        return replace(self, model=gathered(self.model, head_specs(tasks)), device=torch.device("cpu"))

    def facts(self) -> dict[str, Any]:
        """Return for each task its rows and labels."""
        sources = [source for found in self.sources.values() for source in found]
        return {name: task_facts(task, self.tables.label_stats[name], sources) for name, task in self.tasks.items()}

    def bundle(self, scores: Mapping[str, Scores]) -> Bundle:
        """Return the model with all that prediction needs."""
        tasks, found, data = self.tasks, dict(scores), self.facts()
        if self.extended is not None:
            tasks, found = self.extended.all_tasks(tasks), self.extended.all_scores(found)
            data = {**self.extended.data, **data}
        about = {"encoder": self.config.encoder, "versions": versions(), "scores": found, "data": data}
        precision = self.config.train.precision
        whole = Bundle(self.model, tasks, self.tokenizer, self.config.max_tokens, precision, about)
        kept = [name for name, task in tasks.items() if task.answers]
        return whole if len(kept) == len(tasks) else pruned(whole, kept)


def dev_evaluation(assembly: Assembly) -> Callable[[MultiTaskModel], DevScores]:
    """Return what scores the dev rows, as the type that selection accepts."""
    sources = assembly.sources["dev"]
    baselines = assembly.scorer().baselines(sources)

    def evaluate(model: MultiTaskModel) -> DevScores:
        scores = Scorer(as_learned(assembly.tasks, model)).scores(assembly.engine(model), sources)
        gaps = {
            name: normalised(task, scores[name][task.metric], baselines[name][task.metric])
            for name, task in assembly.tasks.items()
        }
        return DevScores(scores, gaps)

    return evaluate


def versions() -> dict[str, str]:
    """Return the versions that made a result."""
    import platform
    from importlib.metadata import version

    found = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    return {"polytask": __version__, **found, "python": platform.python_version()}
