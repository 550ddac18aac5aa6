"""Base class of all exporters, and the result of an export."""

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
    """The result of an export.

    Attributes:
        folders: folder of each task, or a single folder under the name of the export.
        notes: notes for the user.
        pushed: URLs of the uploaded repositories.
    """

    folders: dict[str, Path]
    notes: tuple[str, ...] = ()
    pushed: tuple[str, ...] = ()


class Exporter(Options, ABC):
    """One export format; its options are its fields."""

    push: str | None = Field(
        default=None, description="OWNER/NAME: hub repository to upload to; several folders get one repository each"
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
            raise ValueError("found private without push; set push=OWNER/NAME to upload")
        return self

    @abstractmethod
    def write(self, bundle: Bundle, out: Path) -> Exported:
        """Write a model with its tasks.

        Args:
            bundle: the model with the requested tasks.
            out: a folder that does not exist yet.

        Raises UserError naming what cannot be represented in this format.
        """


def write_folders(out: Path, names: Iterable[str], fill: Callable[[str, Path], None]) -> dict[str, Path]:
    """Write a folder for each name into a new folder, all or none. Raises OutputError if that fails.

    Args:
        out: the new folder.
        names: names of the folders.
        fill: takes a name and an empty folder, and writes the content.
    """
    folders = {name: out / name for name in names}
    with new_folder(out) as temporary:
        for name in folders:
            folder = temporary / name
            folder.mkdir()
            fill(name, folder)
    return folders
