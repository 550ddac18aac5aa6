"""Compares the labels of two tasks: sharing a head, teaching one another and replaying need the same labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polytask.errors import ConfigError
from polytask.tasks.task import Task
from polytask.terms import HeadSpec


def label_differences(first: Task, second: Task) -> list[str]:
    """Describe the differences between the types and labels of two tasks; empty if there are none."""
    differences: list[str] = []
    if first.type_name != second.type_name:
        differences.append(f"their types are {first.type_name} and {second.type_name}")
    if first.labels != second.labels:
        for task, missing in ((first, second), (second, first)):
            only = [label for label in task.labels if label not in missing.labels]
            if only:
                differences.append(f"only {task.name!r} has the labels {', '.join(only)}")
        if set(first.labels) == set(second.labels):
            orders = (f"{task.name!r} has {', '.join(task.labels)}" for task in (first, second))
            differences.append(f"the order of their labels differs: {' and '.join(orders)}")
    compare_vectors = (first.gives_vectors and second.gives_vectors) or (first.options_column and second.options_column)
    if compare_vectors and first.head.size != second.head.size:
        sizes = f"{first.head.size} and {second.head.size}"
        differences.append(f"their vectors have {sizes} numbers (a task's own `size` is set in its options)")
    return differences


def require_shareable(
    groups: Sequence[Sequence[str]], tasks: Mapping[str, Task], heads: Mapping[str, HeadSpec]
) -> None:
    """Raise ConfigError unless the tasks of each group ask for the same head and have the same labels."""
    for index, (first, *others) in enumerate(groups):
        for other in others:
            different = label_differences(tasks[first], tasks[other])
            if not tasks[first].answers or not tasks[other].answers:
                different = ["a task without predictions has a head of its own"]
            if not different and heads[first] != heads[other]:
                different = [f"their heads are {heads[first]} and {heads[other]}"]
            if different:
                raise ConfigError(
                    f"sharing.share_heads[{index}]: {first!r} and {other!r} cannot share a head: {'; '.join(different)}"
                )
