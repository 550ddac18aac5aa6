"""Labels other than those of training, for tasks whose labels are texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polytask.tasks import Task
from polytask.tasks.cells import brief


def with_labels(tasks: Mapping[str, Task], labels: Mapping[str, Any]) -> dict[str, Task]:
    """Return tasks with labels added or described anew.

    Args:
        tasks: tasks by name.
        labels: labels with their texts by task; or the labels alone if there is only one task of this kind.

    Raises ValueError naming the problem.
    """
    described = {name: task for name, task in tasks.items() if task.label_texts}
    if not described:  # these say why not
        described = {name: task for name, task in tasks.items() if task.options_column is not None}
    if not described:
        raise ValueError("no task's labels are texts; train a task with `type: matching`")
    if not isinstance(labels, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from users
        raise ValueError(
            f"found {brief(labels)}; expected labels with their texts, such as {{'sports': 'news about it'}}"
        )
    is_by_task = labels and all(isinstance(value, Mapping | list) for value in labels.values())
    if not is_by_task and len(described) > 1:
        raise ValueError(f"name the task, one of {', '.join(described)}, with its labels below")
    described_anew = dict(tasks)
    for name, task_labels in (labels if is_by_task else {next(iter(described)): labels}).items():
        if name not in described:
            raise ValueError(f"found {name!r}; tasks whose labels are texts: {', '.join(described)}")
        try:
            described_anew[name] = described[name].with_labels(task_labels)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return described_anew
