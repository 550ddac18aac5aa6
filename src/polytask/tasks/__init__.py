"""The task types: the only code that knows what a label is. A new type is one file and one row here."""

from __future__ import annotations

from polytask.tasks.classification import Classification
from polytask.tasks.multilabel import Multilabel
from polytask.tasks.reads import head_specs, require_readable
from polytask.tasks.regression import Regression
from polytask.tasks.tagging import Tagging
from polytask.tasks.task import Tally, Task, TaskOptions

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multilabel": Multilabel,
    "regression": Regression,
    "tagging": Tagging,
}

__all__ = ["TASKS", "Tally", "Task", "TaskOptions", "head_specs", "require_readable"]
