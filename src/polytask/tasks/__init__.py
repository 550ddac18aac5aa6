"""The task types: the only code that knows what a label is. A new type is one file and one row here."""

from __future__ import annotations

from polytask.tasks.classification import Classification
from polytask.tasks.embedding import Embedding
from polytask.tasks.label_stats import LabelStats
from polytask.tasks.matching import Matching
from polytask.tasks.metric import METRICS, Metric, smaller_is_better
from polytask.tasks.metrics import MEASURED
from polytask.tasks.mlm import Mlm
from polytask.tasks.multilabel import Multilabel
from polytask.tasks.ordinal import Ordinal
from polytask.tasks.reads import head_specs, require_readable
from polytask.tasks.regression import Regression
from polytask.tasks.spans import Spans
from polytask.tasks.table import TaskTable
from polytask.tasks.tagging import Tagging
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions

_TYPES: dict[str, type[Task]] = {
    "classification": Classification,
    "embedding": Embedding,
    "matching": Matching,
    "mlm": Mlm,
    "multilabel": Multilabel,
    "ordinal": Ordinal,
    "regression": Regression,
    "spans": Spans,
    "tagging": Tagging,
}
TASKS = TaskTable("task type", _TYPES, base=Task)
for _level, _rows in MEASURED.items():
    METRICS[_level].update(_rows)

__all__ = [
    "METRICS",
    "TASKS",
    "LabelStats",
    "Metric",
    "Task",
    "TaskOptions",
    "head_specs",
    "require_readable",
    "smaller_is_better",
]
