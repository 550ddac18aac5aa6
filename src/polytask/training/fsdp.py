"""Check for options that cannot be combined with a sharded encoder."""

from __future__ import annotations

from collections.abc import Mapping

from polytask.balance import BalanceOptions
from polytask.errors import ConfigError
from polytask.schedule import ScheduleOptions
from polytask.schedule.sequential import SequentialOptions
from polytask.tasks import Task
from polytask.training.options import TrainOptions


def require_shardable(
    train: TrainOptions,
    balance: BalanceOptions,
    schedule: ScheduleOptions,
    tasks: Mapping[str, Task],
    *,
    divides: str | None,
    extends: bool,
) -> None:
    """Raise ConfigError if the encoder is to be sharded and an option needs whole layers.

    Args:
        divides: name of the sharing strategy, if it divides layers during training.
        extends: whether a trained model is being extended.
    """
    if not train.fsdp:
        return
    problems: list[str] = []
    setting = "with train.fsdp=true"
    if divides is not None:
        problems.append(
            f"sharing.strategy: found {divides} {setting}; it divides layers during training, but shards cannot be "
            "changed; use a strategy with a fixed plan, such as partial"
        )
    if balance.top_only:
        problems.append(
            f"balance.measure: found top {setting}; it needs the gradient of a single layer, but sharded layers only "
            "give gradients in full backward passes; use balance.measure=all"
        )
    if balance.draws_elements:
        problems.append(
            f"balance.method: found {balance.method} {setting}; it draws a random number for each element of the "
            "gradients, which are sharded; use a method that draws none, such as equal_norms or sum"
        )
    if isinstance(schedule, SequentialOptions) and schedule.freeze:
        problems.append(
            f"schedule.freeze: found {schedule.freeze} {setting}; what is trained is fixed once the encoder is "
            "sharded; use schedule.freeze=0"
        )
    masking = [name for name, task in tasks.items() if task.mask_rate is not None]
    if masking:
        problems.append(
            f"tasks.{masking[0]}: found a task that predicts masked words {setting}; its head reads the word "
            "embeddings, which are sharded; leave it out"
        )
    if train.optim != "adamw":
        problems.append(f"train.optim: found {train.optim} {setting}; accepted: adamw; use it")
    if extends:
        problems.append(
            f"extend: found {setting}; the old tasks are scored before the encoder is sharded; train a new model with "
            "polytask train"
        )
    if problems:
        raise ConfigError("\n".join(f"{problem}, or train.fsdp=false" for problem in problems))
