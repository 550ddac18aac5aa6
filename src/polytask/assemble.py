"""The composition root: builds all parts of a run from its configuration, in the order of the diagram.

configuration -> tasks + sources -> batches -> encoder (sharing plan) -> heads -> losses -> balancer -> update
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from polytask.assembly import Assembly, ExtendedModel
from polytask.balance import BalanceOptions, require_balanceable, resolve_balance
from polytask.config import Config
from polytask.data.encode import Source
from polytask.data.prepare import (
    DataTables,
    encode_tables,
    read_tables,
    shared_token_warnings,
    truncation_warnings,
    unknown_warnings,
)
from polytask.data.stream import strata
from polytask.data.tokens import Tokenization
from polytask.errors import ConfigError
from polytask.model.device import choose_device
from polytask.model.encoder import Backbone
from polytask.model.loading import cached_if_offline, load_tokenizer, locate, require_encoder
from polytask.model.masked import load_pretrained_heads
from polytask.model.multitask import MultiTaskModel
from polytask.model.parameters import sharing_tasks
from polytask.on_encoder import decoder_choices, encoder_notes, on_encoder, require_one_set
from polytask.schedule import Workload, require_reachable, resolve_proportions, waves, without_rows
from polytask.sharing.sharing import built
from polytask.tasks import TASKS, Task, head_specs, require_readable
from polytask.tasks.alike import require_shareable
from polytask.teacher_file import FileTeacher
from polytask.teachers import Teacher, load_teachers
from polytask.terms import DataWarning, Split
from polytask.training.fsdp import require_shardable
from polytask.training.optimizer import build_optimizer
from polytask.training.rates import rate_notes
from polytask.training.recipe import (
    ROWS,
    ResolvedOption,
    rate_bound_notes,
    resolve_batch_size,
    resolve_rates,
    rows_an_update,
)
from polytask.training.selection import Rule, read_rule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# So many steps are simulated at most to find tasks that `train.max_steps` leaves out.
_MOST_STEPS = 20_000


def assemble(config: Config) -> Assembly:
    """Build a run, ready for its first step. Raises UserError for any problem with the input."""
    if config.extend is not None:
        raise ConfigError(
            "extend: found, but this run trains a new model from its encoder; leave it out, or add the tasks to a "
            "trained model: polytask extend MODEL CONFIG"
        )
    require_readable(config.tasks, {name: TASKS[task.type].level for name, task in config.tasks.items()})
    waves({name: task.needs for name, task in config.tasks.items()})
    device = choose_device(config.train.device)
    location = cached_if_offline(locate(config.encoder))
    require_encoder(location)
    tokenizer = load_tokenizer(location)
    with config.at_its_line():
        tables = read_tables(config.tasks)
    torch.manual_seed(config.train.seed)  # the heads' first weights
    backbone = Backbone.load(location, config.train.attention_dropout)
    require_one_set(config.sharing.strategy != "global", backbone.family, "sharing.strategy")
    if config.max_tokens > backbone.longest:
        raise ConfigError(
            f"max_tokens: found {config.max_tokens}, but {config.encoder} reads at most {backbone.longest} tokens"
        )
    sharing = built(config.sharing, list(config.tasks), backbone.layers)
    tables = replace(tables, tasks=on_encoder(tables.tasks, backbone.config))
    heads = head_specs(tables.tasks)
    require_shareable(sharing.heads, tables.tasks, heads)
    model = MultiTaskModel(backbone, sharing, heads)
    load_pretrained_heads(model, location)
    return compose(config, tables, tokenizer, model, device)


def compose(
    config: Config,
    tables: DataTables,
    tokenizer: PreTrainedTokenizerBase,
    model: MultiTaskModel,
    device: torch.device,
    extended: ExtendedModel | None = None,
) -> Assembly:
    """Build a run around a model, ready for its first step. Raises UserError for any problem with the input."""
    bounds = {name: task.rate_bound for name, task in tables.tasks.items()}
    size = int(model.config.hidden_size), int(model.config.num_hidden_layers)
    train, choices = resolve_rates(config.train, *size, list(bounds.values()))
    choices = (*choices, *decoder_choices(config.tasks, model.config))
    config = config.model_copy(update={"train": train})
    if train.freeze_embeddings:
        model.freeze_words()
    build_optimizer(model, train, tables.tasks)  # fails here if it cannot be built
    for task in tables.tasks.values():
        task.require_usable_loss()
    rule = _rule(config, tables.tasks, extending=extended is not None)
    tokens = Tokenization.of(tokenizer, config.max_tokens)
    sources = encode_tables(tables, tokens)
    model.checkpointing(config.train.gradient_checkpointing)
    config, workload, chosen = _resolved(config, _workload(config, tables.tasks, sources["train"]), model)
    require_one_piece(config)
    require_room(config)
    passes = sum(workload.sizes.values()) / workload.rows
    policy = config.sharing.policy(
        model.sharing, model.size_under, model.size_of_single(), passes, _compares(config.balance)
    )
    require_shardable(
        config.train,
        config.balance,
        config.schedule,
        tables.tasks,
        divides=None if policy is None else config.sharing.strategy,
        extends=extended is not None,
    )
    teachers = load_teachers(config.train.teachers, config.tasks, tables.tasks)
    notes = (
        *(extended.notes if extended is not None else ()),
        *encoder_notes(tables.tasks, model.config, tokenizer),
        *tables.notes,
        *_token_notes(config, tables.tasks, sources, tokenizer, tokens),
        *(rate_notes(model, tables.tasks) if policy is None else ()),
        *rate_bound_notes(train, bounds),
        *_teacher_notes(teachers, sources["train"], tables),
        *_limit_notes(config, workload),
    )
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
        choices=(*choices, *chosen),
    )


def _rule(config: Config, tasks: Mapping[str, Task], *, extending: bool) -> Rule:
    """Return the rule that selects the model by the tasks it predicts. Raises ConfigError if it would predict none."""
    metrics = {name: task.metric for name, task in tasks.items()}
    answering = {name: metric for name, metric in metrics.items() if tasks[name].answers}
    if not answering and not extending:
        raise ConfigError(
            f"tasks: found {', '.join(metrics)}, which predict nothing once the model is trained; "
            "add a task that they help"
        )
    return read_rule(config.train, answering or metrics, {name: task.data for name, task in config.tasks.items()})


def _workload(config: Config, tasks: Mapping[str, Task], sources: Sequence[Source]) -> Workload:
    """Return what the schedule distributes: the rows of each task, and which tasks share rows."""
    rows = config.train.batch_size
    return Workload(
        sizes={name: len(source.drawn[name]) for name in config.tasks for source in sources if name in source.tasks},
        sources=tuple(strata(source) for source in sources),
        batch_size=ROWS if rows == "auto" else rows,
        epochs=config.train.epochs,
        metrics={name: task.metric for name, task in tasks.items()},
        # An extended model's frozen tasks, which may be needed too, are ready.
        needs={name: tuple(need for need in task.needs if need in config.tasks) for name, task in config.tasks.items()},
        gates={name: task.gate for name, task in config.tasks.items() if task.gate is not None},
    )


def _resolved(
    config: Config, workload: Workload, model: MultiTaskModel
) -> tuple[Config, Workload, tuple[ResolvedOption, ...]]:
    """Resolve `auto` for the proportions, the batch size and the balancer, which depend on the tasks' rows.

    Raises ConfigError if the balancer or the schedule is impossible.
    """
    choices: tuple[ResolvedOption, ...] = ()
    config.schedule.require_layers(model.plan.layers)
    proportioned, way = resolve_proportions(config.schedule, workload)
    config = config.model_copy(update={"schedule": proportioned})
    if way is not None:
        choices = (ResolvedOption("schedule.proportions", *way),)
    schedule, sharing = config.schedule.build(workload), sharing_tasks(model)
    together = sum(size for name, size in workload.sizes.items() if name in sharing) / workload.rows
    train, chosen = resolve_batch_size(config.train, min(float(schedule.together), together))
    if chosen:
        config, choices = config.model_copy(update={"train": train}), (*choices, *chosen)
        workload = replace(workload, batch_size=rows_an_update(train))
        schedule = config.schedule.build(workload)
    tasks = list(config.tasks)
    balance, reason = resolve_balance(config.balance, tasks, together=schedule.together, sharing=sharing)
    if reason is not None:
        config = config.model_copy(update={"balance": balance})
        choices = (*choices, ResolvedOption("balance.method", balance.method, reason))
    require_balanceable(config.balance, tasks, together=schedule.together, sharing=sharing)
    require_reachable(schedule)
    return config, workload, choices


def _compares(balance: BalanceOptions) -> int | None:
    """Return after how many updates the balancer computes gradients per task; None if it never does."""
    return balance.interval if balance.shape in ("gram", "gradients") and not balance.top_only else None


def _token_notes(
    config: Config,
    tasks: Mapping[str, Task],
    sources: Mapping[Split, tuple[Source, ...]],
    tokenizer: PreTrainedTokenizerBase,
    tokens: Tokenization,
) -> Iterator[DataWarning]:
    """Yield notes on text that the encoder does not see, or sees differently from how it is written."""
    unknown = tokenizer.unk_token_id
    yield from truncation_warnings(sources, config.max_tokens)
    yield from shared_token_warnings(sources, tasks)
    yield from unknown_warnings(sources, unknown if isinstance(unknown, int) else None, tokens)


def _teacher_notes(
    teachers: Sequence[Teacher | FileTeacher], sources: Sequence[Source], tables: DataTables
) -> Iterator[DataWarning]:
    for teacher in teachers:
        if isinstance(teacher, FileTeacher):
            yield from teacher.notes(sources, tables.tables["train"])


def _limit_notes(config: Config, workload: Workload) -> Iterator[DataWarning]:
    """Yield a note if `train.max_steps` ends the run before some tasks train."""
    schedule, steps = config.schedule.build(workload), config.train.max_steps
    limit = schedule.limit
    if steps is None or steps >= limit or steps > _MOST_STEPS:
        return
    missed = without_rows(schedule, list(workload.sizes), steps)
    if missed:
        yield DataWarning(
            "train.max_steps",
            f"the run ends after {steps} of at most {limit} steps, before {', '.join(missed)} "
            f"{'trains' if len(missed) == 1 else 'train'} on any row",
        )


def require_one_piece(config: Config) -> None:
    """Raise ConfigError if updates are cut into pieces while the balancer needs the whole update."""
    train = config.train
    if config.balance.top_only and train.cuts_updates:
        setting, fix = (
            (f"gradient_accumulation_steps={train.gradient_accumulation_steps}", "gradient_accumulation_steps=1")
            if train.gradient_accumulation_steps > 1
            else (f"max_tokens_per_batch={train.max_tokens_per_batch}", "max_tokens_per_batch=null")
        )
        raise ConfigError(
            f"balance.measure: found top with train.{setting}; it keeps the graphs of a whole update; set "
            f"balance.measure=all, or train.{fix}"
        )


def require_room(config: Config) -> None:
    """Raise ConfigError if a single text may be longer than one piece of a batch."""
    limit = config.train.max_tokens_per_batch
    if limit is not None and limit < config.max_tokens:
        raise ConfigError(
            f"train.max_tokens_per_batch: found {limit}, but one text may have max_tokens={config.max_tokens}; "
            "raise it, or lower max_tokens"
        )
