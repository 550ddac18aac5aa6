"""The checks of `polytask check`: what a configuration would run, and all problems before the first step."""

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
from polytask.result import Result, listed, note_count
from polytask.tables import assembly_text, row_counts
from polytask.terms import DataWarning
from polytask.training.recipe import ResolvedOption


@dataclass(frozen=True, repr=False)
class Check(Result):
    """A configuration that can run; `print(check)` shows the output of `polytask check`.

    Attributes:
        assembly: the run, ready for its first step.
    """

    assembly: Assembly

    @property
    def config(self) -> Config:
        """The configuration, with every `auto` resolved."""
        return self.assembly.config

    @property
    def notes(self) -> tuple[DataWarning, ...]:
        """Notes on the input: each has a place and a message."""
        return self.assembly.notes

    @property
    def choices(self) -> tuple[ResolvedOption, ...]:
        """The resolved values of `auto`, with reasons."""
        return self.assembly.choices

    def summary(self) -> str:
        parameters = count_parameters(self.assembly.model).total
        return f"{listed(self.assembly.tasks)}; {parameters:,} parameters; {note_count(self.notes)}"

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
    """Describe what a configuration would run, and find all problems before the first step.

    Args:
        config: a YAML file, a mapping of the same shape, or a Config.
        overrides: changes to the configuration, such as "train.epochs=1".

    Raises:
        UserError: the input is invalid.
    """
    assembly = assemble(as_config(config, overrides))
    return Check(replace(assembly, notes=(*assembly.notes, *export_notes(assembly.bundle({})))))
