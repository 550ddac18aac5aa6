"""The table of task types. Its rows are task classes, each with its options class and `fit`."""

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
        """Return the task class for these options."""
        return self[options.type].for_options(options)

    def code_of(self, name: str) -> str:
        """Return a hash of the source files of a user's type, which cached rows depend on; "" for other types."""
        if name not in self.extensions:
            return ""
        classes = [
            kind for kind in self[name].__mro__ if not kind.__module__.startswith(("polytask.", "abc", "builtins"))
        ]
        return hashlib.sha256(b"".join(_code(kind) for kind in classes)).hexdigest()

    def register(self, name: str, row: Any = None) -> Any:  # noqa: ANN401
        """Add a type. A class without options of its own gets those of its base class.

        Raises ConfigError as `Table.register` does.
        """
        if row is None:
            return lambda kind: self.register(name, kind)
        super().register(name, row)
        if "Options" not in vars(row):
            row.Options = type(f"{row.__name__}Options", (row.Options,), {"__module__": row.__module__})
        set_tag(row.Options, "type", name)
        row.Options.level = row.level
        row.type_name = name
        return row


def _code(kind: type) -> bytes:
    """Return the source file of a class; without one, the bytecode of its functions."""
    try:
        return Path(inspect.getfile(kind)).read_bytes()
    except (OSError, TypeError):
        functions = [getattr(value, "__func__", value) for _, value in sorted(vars(kind).items())]
        codes = [function.__code__ for function in functions if inspect.isfunction(function)]
        return b"".join(code.co_code + repr(code.co_names).encode() for code in codes)
