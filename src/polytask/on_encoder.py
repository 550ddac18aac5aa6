"""Checks of tasks and sharing against the encoder's family, and the default pooling of the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from polytask.errors import ConfigError
from polytask.heads import AUTO
from polytask.model.family import Family, family_in
from polytask.model.loading import substitute_pad_token
from polytask.tasks import Task
from polytask.tasks.task_options import TaskOptions
from polytask.terms import DataWarning
from polytask.training.recipe import ResolvedOption

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def on_encoder(tasks: Mapping[str, Task], config: Any) -> dict[str, Task]:  # noqa: ANN401
    """Return the tasks adapted to an encoder. Raises ConfigError if one does not fit.

    Args:
        config: the encoder's configuration (transformers).
    """
    adapted: dict[str, Task] = {}
    family = family_in(config)
    for name, task in tasks.items():
        if task.mask_rate is not None and family.is_causal(config):
            raise ConfigError(
                f"tasks.{name}.type: found {task.type_name}, but {config.model_type} reads from left to right: no "
                "token sees what follows a masked word; leave the task out, or choose an encoder that reads "
                "both ways",
                option=("tasks", name),
            )
        try:
            adapted[name] = pooled_as(task, family.pooling(config)).on_encoder(int(config.hidden_size))
        except ValueError as error:
            raise ConfigError(f"tasks.{name}.{error}", option=("tasks", name)) from None
    return adapted


def pooled_as(task: Task, pooling: str) -> Task:
    """Return a task with `pooling` in place of `auto`."""
    if task.options.pooling != AUTO:
        return task
    return replace(task, options=task.options.model_copy(update={"pooling": pooling}))  # type: ignore[type-var]


def require_one_set(divides: bool, family: Family, place: str) -> None:
    """Raise ConfigError if tasks would have their own layers in an encoder with a single set of weights.

    Args:
        divides: whether some layers are not shared by all tasks.
        place: the option that causes this.
    """
    if divides and family.one_set:
        alternative = "sharing.strategy: global" if place.startswith("sharing") else f"no {place}"
        raise ConfigError(
            f"{place}: found layers that not all tasks share, but this encoder has one set of weights for all its "
            f"layers: tasks can only have separate heads there; use {alternative}, or an encoder of another "
            "family",
            option=tuple(place.split(".")),
        )


def decoder_choices(tasks: Mapping[str, TaskOptions], config: Any) -> tuple[ResolvedOption, ...]:  # noqa: ANN401
    """Return the resolved `pooling: auto` of row-level tasks where it is not `mean`."""
    pooling = family_in(config).pooling(config)
    auto_tasks = [name for name, options in tasks.items() if options.pooling == AUTO and options.level == "row"]
    reason = f"{config.model_type} reads from left to right: its last token has seen the text"
    return tuple(ResolvedOption(f"tasks.{name}.pooling", pooling, reason) for name in auto_tasks if pooling != "mean")


def encoder_notes(
    tasks: Mapping[str, Task],
    config: Any,  # noqa: ANN401
    tokenizer: PreTrainedTokenizerBase,
) -> list[DataWarning]:
    """Return notes on how an encoder reads texts."""
    notes: list[DataWarning] = []
    words = [name for name, task in tasks.items() if task.level == "word"]
    if words and family_in(config).is_causal(config):
        notes.append(
            DataWarning(
                "encoder",
                f"{config.model_type} reads from left to right, so a word's state knows nothing of what follows it: "
                f"{', '.join(words)} will be less accurate than on an encoder that reads both ways",
            )
        )
    filler = substitute_pad_token(tokenizer)
    if filler is not None:
        notes.append(
            DataWarning("encoder", f"its tokenizer has no padding token; {filler} is used for padding, and is masked")
        )
    return notes
