"""Whether two tasks are about the same labels: to share a head, to teach one another, to be replayed."""

from __future__ import annotations

from polytask.tasks.task import Task


def label_differences(one: Task, other: Task) -> list[str]:
    """Say in what the types and labels of two tasks differ; nothing where they are the same."""
    found: list[str] = []
    if one.type_name != other.type_name:
        found.append(f"their types are {one.type_name} and {other.type_name}")
    if one.labels != other.labels:
        for task, missing in ((one, other), (other, one)):
            only = [label for label in task.labels if label not in missing.labels]
            if only:
                found.append(f"only {task.name!r} has the labels {', '.join(only)}")
    return found
