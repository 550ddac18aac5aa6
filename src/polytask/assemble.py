"""The composition root: from a configuration to everything a run is made of. It reads like the diagram.

configuration -> tasks + sources -> batches -> encoder (sharing plan) -> heads -> losses -> balancer -> update
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polytask.artifact.bundle import Bundle, as_learned
from polytask.artifact.pruning import pruned
from polytask.balance import BalanceOptions, Balancer, require_balanceable, resolve_balance
from polytask.config import Config
from polytask.data.batch import Collator
from polytask.data.cache import key_of
from polytask.data.encode import Source
from polytask.data.masking import Masker
from polytask.data.prepare import (
    DataTables,
    encode_tables,
    read_tables,
    shared_token_warnings,
    task_facts,
    truncation_warnings,
    unknown_warnings,
)
from polytask.data.stream import Streams, strata
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError
from polytask.evaluation.scoring import Scorer, normalised
from polytask.model.device import choose_device, pass_overhead
from polytask.model.encoder import Backbone
from polytask.model.engine import TorchEngine
from polytask.model.loading import at_hand, load_tokenizer, locate, pad_id
from polytask.model.masked import take_pretrained
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import sharing_tasks
from polytask.on_encoder import decoder_choices, encoder_notes, on_encoder, require_one_set
from polytask.schedule import Schedule, Workload, require_reachable, waves
from polytask.sharing import SharingPolicy
from polytask.tasks import TASKS, Task, head_specs, require_readable
from polytask.tasks.alike import require_shareable
from polytask.teacher_file import FileTeacher
from polytask.teachers import Teacher, add_teacher_outputs, load_teachers
from polytask.terms import DataWarning, Scores, Split
from polytask.training.checkpoint import Checkpoints
from polytask.training.distribution import World
from polytask.training.events import Events
from polytask.training.loop import Trainer
from polytask.training.optimizer import build_optimizer
from polytask.training.parts import TrainerParts
from polytask.training.rates import rate_notes
from polytask.training.recipe import ROWS, ResolvedOption, resolve_batch_size, resolve_rates, rows_an_update
from polytask.training.selection import DevScores, Rule, read_rule
from polytask.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Rows of similar length that the stream keeps together: a fraction of a batch, so that its tasks still mix.
BLOCK_ROWS = 8


@dataclass(frozen=True)
class Extended:
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
    extended: Extended | None = None
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

    def checkpoints(self, folder: Path) -> Checkpoints:
        """Return the checkpoints of this run in its folder."""
        return Checkpoints(folder / "checkpoints", self.identity, self.config.train.save_total_limit)

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
            checkpoints=None if folder is None else self.checkpoints(folder),
            events=events,
        )
        return Trainer(parts)

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


def assemble(config: Config) -> Assembly:
    """Build a run up to step 0. Raises a UserError for everything that can be wrong with the input."""
    if config.extend is not None:
        raise ConfigError(
            "extend: found, and this run trains a model from its encoder; leave it out, or add the tasks to a trained "
            "model: polytask extend MODEL CONFIG"
        )
    require_readable(config.tasks, {name: TASKS[task.type].level for name, task in config.tasks.items()})
    waves({name: task.needs for name, task in config.tasks.items()})
    device = choose_device(config.train.device)
    location = at_hand(locate(config.encoder))
    tokenizer = load_tokenizer(location)
    with config.at_its_line():
        tables = read_tables(config.tasks)
    torch.manual_seed(config.train.seed)  # the heads' first weights
    backbone = Backbone.load(location, config.train.attention_dropout)
    require_one_set(config.sharing.strategy != "global", backbone.family, "sharing.strategy")
    if config.max_tokens > backbone.longest:
        raise ConfigError(
            f"max_tokens: found {config.max_tokens}, and {config.encoder} reads at most {backbone.longest} tokens"
        )
    sharing = config.sharing.build(list(config.tasks), backbone.layers)
    tables = replace(tables, tasks=on_encoder(tables.tasks, backbone.config))
    heads = head_specs(tables.tasks)
    require_shareable(sharing.heads, tables.tasks, heads)
    model = MultiTaskModel(backbone, sharing, heads)
    take_pretrained(model, location)
    return compose(config, tables, tokenizer, model, device)


def _compares(balance: BalanceOptions) -> int | None:
    """Return every how many updates the balancer takes the tasks' gradients apart, if it does."""
    return balance.interval if balance.shape in ("gram", "gradients") and not balance.top_only else None


def compose(
    config: Config,
    tables: DataTables,
    tokenizer: PreTrainedTokenizerBase,
    model: MultiTaskModel,
    device: torch.device,
    extended: Extended | None = None,
) -> Assembly:
    """Build a run around a model, up to step 0. Raises a UserError for everything that can be wrong with the input."""
    train, choices = resolve_rates(config.train, int(model.config.hidden_size), int(model.config.num_hidden_layers))
    choices = (*choices, *decoder_choices(config.tasks, model.config))
    config = config.model_copy(update={"train": train})
    build_optimizer(model, train, tables.tasks)  # whether it can be built
    for task in tables.tasks.values():
        task.require_usable_loss()
    metrics = {name: task.metric for name, task in tables.tasks.items()}
    answering = {name: metric for name, metric in metrics.items() if tables.tasks[name].answers}
    if not answering and extended is None:
        raise ConfigError(
            f"tasks: found {', '.join(metrics)}, which answer nothing once the model is trained; "
            "add a task that they help"
        )
    # A model is chosen by what it answers.
    rule = read_rule(config.train, answering or metrics, {name: task.data for name, task in config.tasks.items()})
    tokens = Tokenization.of(tokenizer, config.max_tokens)
    sources = encode_tables(tables, tokens)
    model.checkpointing(config.train.gradient_checkpointing)
    sizes = {
        name: len(source.drawn[name]) for name in config.tasks for source in sources["train"] if name in source.tasks
    }
    rows_alike = tuple(strata(source) for source in sources["train"])
    workload = Workload(
        sizes=sizes,
        sources=rows_alike,
        batch_size=ROWS if train.batch_size == "auto" else train.batch_size,
        epochs=config.train.epochs,
        metrics=metrics,
        needs={name: task.needs for name, task in config.tasks.items()},
        gates={name: task.gate for name, task in config.tasks.items() if task.gate is not None},
    )
    schedule, sharing = config.schedule.build(workload), sharing_tasks(model)
    together = sum(size for name, size in sizes.items() if name in sharing) / workload.rows
    train, chosen = resolve_batch_size(train, min(float(schedule.together), together))
    if chosen:
        config, choices = config.model_copy(update={"train": train}), (*choices, *chosen)
        workload = replace(workload, batch_size=rows_an_update(train))
        schedule = config.schedule.build(workload)
    balance, reason = resolve_balance(config.balance, list(config.tasks), together=schedule.together, sharing=sharing)
    if reason is not None:
        config = config.model_copy(update={"balance": balance})
        choices = (*choices, ResolvedOption("balance.method", balance.method, reason))
    require_balanceable(config.balance, list(config.tasks), together=schedule.together, sharing=sharing)
    require_one_piece(config)
    require_room(config)
    require_reachable(schedule)
    passes = sum(workload.sizes.values()) / workload.rows
    policy = config.sharing.policy(
        model.sharing, model.size_under, model.size_of_single(), passes, _compares(config.balance)
    )
    shared_tokens = shared_token_warnings(sources, tables.tasks)
    notes = (*tables.notes, *truncation_warnings(sources, config.max_tokens), *shared_tokens)
    unknown = tokenizer.unk_token_id
    notes = (*notes, *unknown_warnings(sources, unknown if isinstance(unknown, int) else None, tokens))
    notes = (*encoder_notes(tables.tasks, model.config, tokenizer), *notes)
    if policy is None:
        notes = (*notes, *rate_notes(model, tables.tasks))
    if extended is not None:
        notes = (*extended.notes, *notes)
    teachers = load_teachers(config.train.teachers, config.tasks, tables.tasks)
    for teacher in teachers:
        if isinstance(teacher, FileTeacher):
            notes = (*notes, *teacher.notes(sources["train"], tables.tables["train"]))
    return Assembly(
        config=config,
        tasks=tables.tasks,
        tables=tables,
        sources=sources,
        tokenizer=tokenizer,
        model=model,
        policy=policy,
        workload=workload,
        rule=rule,
        notes=notes,
        device=device,
        teachers=teachers,
        extended=extended,
        choices=choices,
    )


def require_one_piece(config: Config) -> None:
    """Raise ConfigError when an update is cut into pieces that a balancer has to see whole."""
    train = config.train
    if config.balance.top_only and train.cuts_updates:
        found, whole = (
            (f"gradient_accumulation_steps={train.gradient_accumulation_steps}", "gradient_accumulation_steps=1")
            if train.gradient_accumulation_steps > 1
            else (f"max_tokens_per_batch={train.max_tokens_per_batch}", "max_tokens_per_batch=null")
        )
        raise ConfigError(
            f"balance.measure: found top with train.{found}; it keeps the graphs of a whole update; set "
            f"balance.measure=all, or train.{whole}"
        )


def require_room(config: Config) -> None:
    """Raise ConfigError when a text alone is longer than what may pass the encoder in one piece."""
    limit = config.train.max_tokens_per_batch
    if limit is not None and limit < config.max_tokens:
        raise ConfigError(
            f"train.max_tokens_per_batch: found {limit}, and one text may have max_tokens={config.max_tokens}; "
            "raise it, or lower max_tokens"
        )


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
