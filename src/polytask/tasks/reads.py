"""What tasks read of the tasks that they need: checked in their options, and put into what they ask of their heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from polytask.errors import ConfigError, nearest
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions
from polytask.terms import HeadSpec, ReadOutputs


def require_readable(options: Mapping[str, TaskOptions], levels: Mapping[str, Literal["row", "word"]]) -> None:
    """Raise ConfigError unless each task needs what it reads, and can be given it for its own rows.

    Args:
        levels: for each task whether it has one output a text or one a word.
    """
    for name, own in options.items():
        place = f"tasks.{name}.reads"
        for other in own.reads:
            if other == name:
                raise ConfigError(f"{place}: found {other!r}, the task itself; name another task, which it needs")
            if other not in options:
                raise ConfigError(f"{place}: found {other!r}; {nearest(other, options.keys() - {name})}")
            if other not in own.needs:
                needs = ", ".join([*own.needs, other])
                raise ConfigError(f"{place}: found {other!r}, and {name!r} does not need it; add needs: [{needs}]")
            if not options[other].answers:
                raise ConfigError(f"{place}: {other!r} answers nothing that could be read; name another task")
            if (levels[name], levels[other]) == ("row", "word"):
                raise ConfigError(
                    f"{place}: {other!r} predicts each word and {name!r} a whole text; "
                    "a task of texts can read other tasks of texts only"
                )
            if (own.text_pair is None) != (options[other].text_pair is None):
                raise ConfigError(
                    f"{place}: of {name!r} and {other!r} one is about a text and one about a pair of texts; "
                    "both have to read the same"
                )


def head_specs(tasks: Mapping[str, Task]) -> dict[str, HeadSpec]:
    """Return what the tasks ask of their heads, each with what it reads of the others' outputs.

    Source: Hashimoto et al. 2017, "A Joint Many-Task Model", section 2: label embeddings weighted by the predicted
    probabilities are given to the next task. A linear layer over the probabilities is the same sum.
    """
    return {
        name: replace(task.head, reads=_readings(task, tasks), head=task.options.head or task.head_type)
        for name, task in tasks.items()
    }


def _readings(task: Task, tasks: Mapping[str, Task]) -> tuple[ReadOutputs, ...]:
    # By name: tasks that share a head may list what they read in any order.
    return tuple(
        ReadOutputs(name, tasks[name].head.size, tasks[name].activation, task.options.detach_reads)
        for name in sorted(task.options.reads)
    )
