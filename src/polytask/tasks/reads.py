"""Tasks that read other tasks' predictions (`reads`): checks of the options, and the head specifications."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from polytask.errors import ConfigError, nearest
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions
from polytask.terms import HeadSpec, ReadOutputs


def require_readable(options: Mapping[str, TaskOptions], levels: Mapping[str, Literal["row", "word"]]) -> None:
    """Raise ConfigError unless each task needs the tasks that it reads, and these predict its own rows.

    Args:
        levels: for each task, whether it has one output per text or per word.
    """
    for name, task_options in options.items():
        place = f"tasks.{name}.reads"
        for other in task_options.reads:
            if other == name:
                raise ConfigError(f"{place}: found {other!r}, the task itself; name another task, which it needs")
            if other not in options:
                raise ConfigError(f"{place}: found {other!r}; {nearest(other, options.keys() - {name})}")
            if other not in task_options.needs:
                needs = ", ".join([*task_options.needs, other])
                raise ConfigError(f"{place}: found {other!r}, and {name!r} does not need it; add needs: [{needs}]")
            if not options[other].answers:
                raise ConfigError(f"{place}: {other!r} makes no predictions that could be read; name another task")
            if (levels[name], levels[other]) == ("row", "word"):
                raise ConfigError(
                    f"{place}: {other!r} predicts words and {name!r} whole texts; "
                    "a task at row level can only read other tasks at row level"
                )
            if (task_options.text_pair is None) != (options[other].text_pair is None):
                raise ConfigError(
                    f"{place}: one of {name!r} and {other!r} is about a text, the other about a pair of texts; "
                    "both have to take the same input"
                )


def head_specs(tasks: Mapping[str, Task]) -> dict[str, HeadSpec]:
    """Return the specifications of the tasks' heads, including the other tasks' outputs that they read.

    Source: Hashimoto et al. 2017, "A Joint Many-Task Model", section 2: label embeddings weighted by the predicted
    probabilities are given to the next task. A linear layer over the probabilities is the same sum.
    """
    return {
        name: replace(task.head, reads=_readings(task, tasks), head=task.options.head or task.head_type)
        for name, task in tasks.items()
    }


def _readings(task: Task, tasks: Mapping[str, Task]) -> tuple[ReadOutputs, ...]:
    # Sorted by name: tasks that share a head may list `reads` in any order.
    return tuple(
        ReadOutputs(name, tasks[name].head.size, tasks[name].activation, task.options.detach_reads)
        for name in sorted(task.options.reads)
    )
