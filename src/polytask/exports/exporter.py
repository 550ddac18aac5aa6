"""What every way to export a model has."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, field_validator, model_validator

from polytask.files import new_folder
from polytask.options import Options

if TYPE_CHECKING:
    from polytask.artifact.bundle import Bundle


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folders: by task, or one folder under the name of the export for all tasks.
        notes: what a person should know about it.
        pushed: where it was uploaded to.
    """

    folders: dict[str, Path]
    notes: tuple[str, ...] = ()
    pushed: tuple[str, ...] = ()


class Exporter(Options, ABC):
    """One form to export a model to; its options are its fields."""

    push: str | None = Field(
        default=None, description="OWNER/NAME: hub repository to upload to; several folders go to one repository each"
    )
    private: bool = Field(default=False, description="create new repositories as private")

    @field_validator("push")
    @classmethod
    def _is_a_repository(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", value) is None:
            raise ValueError("a repository of the hub is OWNER/NAME")
        return value

    @model_validator(mode="after")
    def _private_is_of_what_is_pushed(self) -> Self:
        if self.private and self.push is None:
            raise ValueError("found private without push; say with push=OWNER/NAME where to upload")
        return self

    @abstractmethod
    def write(self, bundle: Bundle, out: Path) -> Exported:
        """Write a model with the tasks that were asked for.

        Args:
            out: a folder that is not there yet.

        Raises UserError naming what this form cannot hold.
        """


def write_folders(out: Path, names: Iterable[str], fill: Callable[[str, Path], None]) -> dict[str, Path]:
    """Write a folder for each name into a new folder, all of them or nothing. Raises OutputError when that fails.

    Args:
        fill: writes what belongs to a name into an empty folder.
    """
    found = {name: out / name for name in names}
    with new_folder(out) as temporary:
        for name in found:
            folder = temporary / name
            folder.mkdir()
            fill(name, folder)
    return found
