"""What cannot be trained with a sharded encoder."""

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
    """Raise ConfigError when the encoder is to be sharded, and something needs its layers as a whole.

    Args:
        divides: the strategy of sharing that divides layers while they train, if it does.
        extends: whether a trained model is extended.
    """
    if not train.fsdp:
        return
    problems: list[str] = []
    found = "with train.fsdp=true"
    if divides is not None:
        problems.append(
            f"sharing.strategy: found {divides} {found}; it divides layers while they train, and shards stay as they "
            "are; use a strategy whose plan is fixed, such as partial"
        )
    if balance.top_only:
        problems.append(
            f"balance.measure: found top {found}; it differentiates by one layer alone, and sharded layers give their "
            "gradients in whole backward passes; use balance.measure=all"
        )
    if balance.draws_elements:
        problems.append(
            f"balance.method: found {balance.method} {found}; it draws a number for each element of the gradients, of "
            "which each process has a part; use a method that draws none, such as equal_norms or sum"
        )
    if isinstance(schedule, SequentialOptions) and schedule.freeze:
        problems.append(
            f"schedule.freeze: found {schedule.freeze} {found}; what trains is settled when the encoder is sharded; "
            "use schedule.freeze=0"
        )
    guessing = [name for name, task in tasks.items() if task.mask_rate is not None]
    if guessing:
        problems.append(
            f"tasks.{guessing[0]}: found a task that guesses words {found}; its head reads the word embeddings, which "
            "are sharded; leave it out"
        )
    if train.optim != "adamw":
        problems.append(f"train.optim: found {train.optim} {found}; accepted: adamw; use it")
    if extends:
        problems.append(
            f"extend: found {found}; the old tasks are scored before the encoder is sharded; train a new model with "
            "polytask train"
        )
    if problems:
        raise ConfigError("\n".join(f"{problem}, or train.fsdp=false" for problem in problems))
