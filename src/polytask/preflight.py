"""What `polytask check` finds: all that would run, and all that can be wrong, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polytask.api import as_config
from polytask.assemble import assemble
from polytask.assembly import Assembly
from polytask.config import Config
from polytask.exports.plain import export_notes
from polytask.model.parameters import count_parameters
from polytask.result import Result, listed
from polytask.tables import assembly_text, row_counts
from polytask.terms import DataWarning
from polytask.training.recipe import ResolvedOption


@dataclass(frozen=True, repr=False)
class Check(Result):
    """A configuration that can run; `print(check)` tells what `polytask check` does.

    Attributes:
        assembly: the run, up to its first step.
    """

    assembly: Assembly

    @property
    def config(self) -> Config:
        """The configuration, with numbers and names in place of `auto`."""
        return self.assembly.config

    @property
    def notes(self) -> tuple[DataWarning, ...]:
        """What a person should know of the input: each has a place and a message."""
        return self.assembly.notes

    @property
    def choices(self) -> tuple[ResolvedOption, ...]:
        """What `auto` became, and why."""
        return self.assembly.choices

    def summary(self) -> str:
        count = len(self.notes)
        notes = "nothing to know" if not count else f"{count} note{'s' if count > 1 else ''}"
        return f"{listed(self.assembly.tasks)}; {count_parameters(self.assembly.model).total:,} parameters; {notes}"

    def records(self) -> list[dict[str, Any]]:
        return [
            {
                "task": name, "type": task.type_name, "metric": task.metric, "labels": len(task.labels) or None,
                **row_counts(self.assembly, name),
            }
            for name, task in self.assembly.tasks.items()
        ]  # fmt: skip

    def __str__(self) -> str:
        return assembly_text(self.assembly)


def check(config: str | Path | Config | Mapping[str, Any], *, overrides: Sequence[str] = ()) -> Check:
    """Say what would run, and find everything that can be wrong before the first step.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        overrides: such as "train.epochs=1".

    Raises:
        UserError: the input is at fault.
    """
    assembly = assemble(as_config(config, overrides))
    return Check(replace(assembly, notes=(*assembly.notes, *export_notes(assembly.bundle({})))))
