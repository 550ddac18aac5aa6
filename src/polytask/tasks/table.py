"""The table of task types, whose rows are classes of tasks: each has its options, and `fit` builds it."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

from polytask.registry import Table, set_tag
from polytask.tasks.task import Task
from polytask.tasks.task_options import TaskOptions


class TaskTable(Table[type[Task]]):
    """Task types by name."""

    def of(self, options: TaskOptions) -> type[Task]:
        """Return the class of a task with such options."""
        return self[options.type].for_options(options)

    def code_of(self, name: str) -> str:
        """Return a hash of the files that hold the code of a user's type, by which its rows are read; "" for others."""
        if name not in self.extensions:
            return ""
        own = [kind for kind in self[name].__mro__ if not kind.__module__.startswith(("polytask.", "abc", "builtins"))]
        return hashlib.sha256(b"".join(_code(kind) for kind in own)).hexdigest()

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


def _code(kind: type) -> bytes:
    """Return the text of the file that holds a class; what its functions compile to where there is none."""
    try:
        return Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):
        functions = [getattr(value, "__func__", value) for _, value in sorted(vars(kind).items())]
        codes = [function.__code__ for function in functions if inspect.isfunction(function)]
        return b"".join(code.co_code + repr(code.co_names).encode() for code in codes)
