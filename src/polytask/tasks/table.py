"""The table of task types, whose rows are classes of tasks: each has its options, and `fit` builds it."""

from __future__ import annotations

from typing import Any

from polytask.registry import Table, set_tag
from polytask.tasks.task import Task


class TaskTable(Table[type[Task]]):
    """Task types by name."""

    def register(self, name: str, row: Any = None) -> Any:  # noqa: ANN401
        """Add a type. A class that declares no options of its own gets those of the class that it derives from.

        Raises ConfigError as `Table.register` does.
        """
        if row is None:
            return lambda found: self.register(name, found)
        super().register(name, row)
        if "Options" not in vars(row):
            row.Options = type(f"{row.__name__}Options", (row.Options,), {"__module__": row.__module__})
        set_tag(row.Options, "type", name)
        row.Options.level = row.level
        row.type_name = name
        return row
