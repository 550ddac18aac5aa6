"""What an encoder's family makes of tasks and their sharing: poolings that were left open, and what cannot be."""

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
    """Return the tasks on an encoder of a configuration. Raises ConfigError where one does not fit."""
    found: dict[str, Task] = {}
    family = family_in(config)
    for name, task in tasks.items():
        if task.mask_rate is not None and family.is_causal(config):
            raise ConfigError(
                f"tasks.{name}.type: found {task.type_name}, and {config.model_type} reads from left to right: no "
                "token knows what stands behind a hidden word; leave the task out, or choose an encoder that reads "
                "both ways",
                option=("tasks", name),
            )
        try:
            found[name] = pooled_as(task, family.pooling(config)).on_encoder(int(config.hidden_size))
        except ValueError as error:
            raise ConfigError(f"tasks.{name}.{error}", option=("tasks", name)) from None
    return found


def pooled_as(task: Task, pooling: str) -> Task:
    """Return a task that leaves its pooling to the encoder with this one."""
    if task.options.pooling != AUTO:
        return task
    return replace(task, options=task.options.model_copy(update={"pooling": pooling}))  # type: ignore[type-var]


def require_one_set(divides: bool, family: Family, place: str) -> None:
    """Raise ConfigError where tasks would have layers of their own in an encoder that has one set of weights.

    Args:
        divides: whether the layers are divided among tasks.
        place: of the option that says so.
    """
    if divides and family.one_set:
        told = "sharing.strategy: global" if place.startswith("sharing") else f"no {place}"
        raise ConfigError(
            f"{place}: found layers that not all tasks share, and this encoder has one set of weights for all its "
            f"layers: tasks have heads of their own there, and nothing else; use {told}, or an encoder of another "
            "family",
            option=tuple(place.split(".")),
        )


def decoder_choices(tasks: Mapping[str, TaskOptions], config: Any) -> tuple[ResolvedOption, ...]:  # noqa: ANN401
    """Return what `auto` became in tasks of texts where it is not `mean`."""
    pooling = family_in(config).pooling(config)
    left = [name for name, options in tasks.items() if options.pooling == AUTO and options.level == "row"]
    reason = f"{config.model_type} reads from left to right: its last token has seen the text"
    return tuple(ResolvedOption(f"tasks.{name}.pooling", pooling, reason) for name in left if pooling != "mean")


def encoder_notes(
    tasks: Mapping[str, Task],
    config: Any,  # noqa: ANN401
    tokenizer: PreTrainedTokenizerBase,
) -> list[DataWarning]:
    """Say what a person should know of how an encoder is read."""
    found: list[DataWarning] = []
    words = [name for name, task in tasks.items() if task.level == "word"]
    if words and family_in(config).is_causal(config):
        found.append(
            DataWarning(
                "encoder",
                f"{config.model_type} reads from left to right, so a word's state knows nothing of what follows it: "
                f"{', '.join(words)} will be less exact than on an encoder that reads both ways",
            )
        )
    filler = substitute_pad_token(tokenizer)
    if filler is not None:
        found.append(
            DataWarning(
                "encoder", f"its tokenizer has no padding token; {filler} fills what is behind a text, and is not read"
            )
        )
    return found
