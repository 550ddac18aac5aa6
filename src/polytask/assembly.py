"""A run that is ready for its first step: its parts, and the objects built from them."""

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
from polytask.training.requests import Requests
from polytask.training.selection import DevScores, Rule
from polytask.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Number of rows of similar length that the stream keeps together: a fraction of a batch, so that tasks still mix.
BLOCK_ROWS = 8


@dataclass(frozen=True)
class ExtendedModel:
    """The trained model that a run adds tasks to.

    Attributes:
        model: path of its folder.
        digest: hash of its weights.
        mode: "frozen" if the layers that its tasks use do not train, "joint" if they do.
        tasks: its tasks by name.
        scores: those of its scores that stay valid.
        notes: what the user should know about its tasks.
        data: for each of its tasks the rows and labels that it was trained on.
        own: its tasks that get layers of their own.
    """

    model: str
    digest: str
    mode: str
    tasks: Mapping[str, Task]
    scores: Mapping[str, Scores]
    notes: tuple[DataWarning, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    own: tuple[str, ...] = ()

    def all_tasks(self, trained: Mapping[str, Task]) -> dict[str, Task]:
        """Return old and new tasks, the old ones first."""
        return {**self.tasks, **trained}

    def all_scores(self, new_scores: Mapping[str, Scores]) -> dict[str, Scores]:
        """Return the new scores merged with the scores that stay valid."""
        splits = dict.fromkeys([*self.scores, *new_scores])
        return {split: {**self.scores.get(split, {}), **new_scores.get(split, {})} for split in splits}

    def to_json(self, trained: Mapping[str, Task]) -> dict[str, Any]:
        """Return the extended model, and which tasks are new, have new layers, are replayed, or kept without rows."""
        return {
            "model": self.model,
            "mode": self.mode,
            "new": [task for task in trained if task not in self.tasks],
            "own": list(self.own),
            "replayed": [task for task in trained if task in self.tasks and task not in self.own],
            "kept": [task for task in self.tasks if task not in trained],
        }


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A run that is ready for its first step; its input has been checked completely."""

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
        """Hash of everything that determines the run's weights; teachers count by content, not by path."""
        digests = [table.digest for tables in self.tables.tables.values() for table in tables]
        models = [teacher.digest for teacher in self.teachers]
        if self.extended is not None:
            models += [self.extended.mode, self.extended.digest]
        tokens = Tokenization.of(self.tokenizer, self.config.max_tokens).fingerprint
        config = self.config.to_json()
        config["train"]["teachers"] = len(self.teachers)
        return key_of(config, digests, tokens, self._encoder(), *models)

    def _encoder(self) -> dict[str, Any]:
        """Return the encoder's configuration values that affect its outputs; a checkpoint holds the weights."""
        values = self.model.config.to_dict()
        return {key: value for key, value in values.items() if key not in ("_name_or_path", "transformers_version")}

    def train_sources(self, world: World) -> tuple[Source, ...]:
        """Return the training rows, with the outputs of the teachers, if any."""
        sources = self.sources["train"]
        if not self.teachers:
            return sources
        if not world.is_main:
            world.broadcast(None)  # the first process fills the cache
        with_outputs = add_teacher_outputs(
            sources, self.tables.tables["train"], self.tasks, self.teachers, self.device, show=world.is_main
        )
        if world.is_main:
            world.broadcast(None)
        return with_outputs

    def checkpoints(self, folder: Path, world: World) -> Checkpoints:
        """Return the checkpoints of this run in its folder."""
        files = ShardFiles(world) if self.config.train.fsdp else WholeFiles()
        return Checkpoints(folder / "checkpoints", self.identity, self.config.train.save_total_limit, files)

    def collator(self, *, packs: bool = False) -> Collator:
        """Return the collator, which builds batches.

        Args:
            packs: whether they are for layers that compute no padding, and may hold rows of more different lengths.
        """
        overhead = pass_overhead(self.device, packs=packs)
        return Collator(self.tasks, pad_id(self.tokenizer), self.model.uses_type_ids, overhead, self._masker)

    @cached_property
    def _masker(self) -> Masker | None:
        """The object that masks words; None if no task predicts masked words."""
        if all(task.mask_rate is None for task in self.tasks.values()):
            return None
        vocabulary = len(next(iter(self.model.word_embeddings().values())))
        return Masker.of(self.tokenizer, vocabulary, self.config.train.seed)

    def scorer(self) -> Scorer:
        """Return the scorer, which predicts and scores rows."""
        return Scorer(self.tasks)

    def engine(self, model: MultiTaskModel | None = None) -> TorchEngine:
        """Return an engine that runs the model, or another model of the same tasks, in its current state."""
        heads = {name: task.head for name, task in self.tasks.items()}
        precision = self.config.train.precision
        return TorchEngine(model or self.model, heads, self.collator(), self.device, precision)

    def schedule(self) -> Schedule:
        """Build the schedule of this run, before its first step."""
        return self.config.schedule.build(self.workload)

    def trainer(self, world: World, folder: Path | None, events: Events, requests: Requests | None = None) -> Trainer:
        """Build the trainer of this run."""
        options = self.config.train
        sources = self.train_sources(world)
        # Different sets of tasks must get different blocks; the same seed must give the same ones.
        streams = Streams(sources, seed=options.seed, block=BLOCK_ROWS)
        weights = {name: task.weight for name, task in self.config.tasks.items()}
        if options.fsdp and world.size > 1:
            shard(self.model, self.device, options.precision, world.size)
        parts = TrainerParts(
            model=self.model.to(self.device),
            tasks=self.tasks,
            sources=sources,
            streams=streams,
            collator=self.collator(packs=self.model.packs),
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
        return Trainer(parts, requests)

    def gathered(self) -> Assembly:
        """Return the run with an unsharded model. All processes must call it together."""
        if not self.model.sharded:
            return self
        tasks = self.tasks if self.extended is None else self.extended.all_tasks(self.tasks)
        # The whole model may not fit on the device.
        return replace(self, model=gathered(self.model, head_specs(tasks)), device=torch.device("cpu"))

    def facts(self) -> dict[str, Any]:
        """Return the row and label counts of each task."""
        sources = [source for split_sources in self.sources.values() for source in split_sources]
        return {name: task_facts(task, self.tables.label_stats[name], sources) for name, task in self.tasks.items()}

    def bundle(self, scores: Mapping[str, Scores]) -> Bundle:
        """Return the model together with everything that prediction needs."""
        tasks, all_scores, data = self.tasks, dict(scores), self.facts()
        if self.extended is not None:
            tasks, all_scores = self.extended.all_tasks(tasks), self.extended.all_scores(all_scores)
            data = {**self.extended.data, **data}
        about = {"encoder": self.config.encoder, "versions": versions(), "scores": all_scores, "data": data}
        precision = self.config.train.precision
        bundle = Bundle(self.model, tasks, self.tokenizer, self.config.max_tokens, precision, about)
        answering = [name for name, task in tasks.items() if task.answers]
        return bundle if len(answering) == len(tasks) else pruned(bundle, answering)


def dev_evaluation(assembly: Assembly) -> Callable[[MultiTaskModel], DevScores]:
    """Return a function that scores a model on the dev rows, for model selection."""
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
    """Return the versions of polytask, Python and the main libraries."""
    import platform
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    return {"polytask": __version__, **libraries, "python": platform.python_version()}
