"""What every way to export a model has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from polytask.options import Options

if TYPE_CHECKING:
    from polytask.artifact.folder import Bundle


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folders: by task, or one folder under the name of the export for all tasks.
        notes: what a person should know about it.
    """

    folders: dict[str, Path]
    notes: tuple[str, ...] = ()


class Exporter(Options, ABC):
    """One form to export a model to; its options are its fields."""

    @abstractmethod
    def write(self, bundle: Bundle, out: Path) -> Exported:
        """Write a model with the tasks that were asked for.

        Args:
            out: a folder that is not there yet.

        Raises UserError naming what this form cannot hold.
        """
