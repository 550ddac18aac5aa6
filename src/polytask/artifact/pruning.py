"""Reduction of a model to some of its tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from polytask.artifact.bundle import Bundle
from polytask.errors import ConfigError, nearest
from polytask.model.pruning import pruned as pruned_model
from polytask.tasks import Task, head_specs

# Keys of `Bundle.about` with values by task, and by split and task.
_BY_TASK = ("data",)
_BY_SPLIT = ("scores",)


def pruned(bundle: Bundle, tasks: Sequence[str]) -> Bundle:
    """Return the bundle with these tasks only; their answers stay as they are.

    Raises ConfigError for an unknown task, and for one that reads another which is not among them.
    """
    require_complete(tasks, bundle.tasks)
    kept = {name: _alone(task, tasks) for name, task in bundle.tasks.items() if name in tasks}
    model = pruned_model(bundle.model, kept, head_specs(kept))
    return replace(bundle, model=model, tasks=kept, about=_about(bundle.about, kept))


def require_complete(tasks: Sequence[str], known: Mapping[str, Task]) -> None:
    """Raise ConfigError unless the tasks are known, and what they read of others is among them."""
    if not tasks:
        raise ConfigError(f"tasks: found none; {nearest('', known)}")
    for task in tasks:
        if task not in known:
            raise ConfigError(f"tasks: found {task!r}; {nearest(task, known)}")
    for task in tasks:
        missing = [other for other in known[task].options.reads if other not in tasks]
        if missing:
            raise ConfigError(
                f"tasks: {task!r} reads the predictions of {', '.join(missing)}; "
                f"add {'it' if len(missing) == 1 else 'them'}: {','.join([*tasks, *missing])}"
            )


def _alone(task: Task, tasks: Sequence[str]) -> Task:
    """Return the task without needs of removed tasks."""
    needs = tuple(other for other in task.options.needs if other in tasks)
    return replace(task, options=task.options.model_copy(update={"needs": needs}))  # type: ignore[type-var]


def _about(about: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return the information without that of other tasks."""

    def own(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name in tasks}

    kept = dict(about)
    kept |= {key: own(about[key]) for key in _BY_TASK if key in about}
    kept |= {key: {split: own(found) for split, found in about[key].items()} for key in _BY_SPLIT if key in about}
    return kept
