"""Command-line arguments for predicting many files into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from polytask.errors import ConfigError, nearest
from polytask.regular import is_folder, is_there

if TYPE_CHECKING:
    from polytask.predict.sink import Form


def are_many(names: Sequence[str]) -> bool:
    """Whether a command line names several files, a folder, or a pattern."""
    if len(names) > 1:
        return True
    is_question = names[0].endswith("?") and " " in names[0]  # a question given instead of a file
    is_pattern = any(mark in names[0] for mark in "*?[") and not is_question
    return is_folder(names[0]) or (is_pattern and not is_there(names[0]))


def read_folder(out: Path | None, to: str | None, spans: str | None) -> tuple[Path, Form]:
    """Return the output folder and format. Raises ConfigError if the arguments do not fit many files."""
    from polytask.data.paths import EXTENSIONS
    from polytask.predict.sink import Form

    if out is None:
        raise ConfigError(
            "out: predictions for several files, or with --workers, are written into a folder; give --out FOLDER"
        )
    if out.suffix.lower() in (*EXTENSIONS, ".gz", ".txt") and not out.is_dir():
        raise ConfigError(
            f"out: {out} has the name of a file, but predictions for several files, or with --workers, are "
            "written into a folder; name a folder"
        )
    if spans is not None:
        raise ConfigError("spans: annotations are written for one file at a time, without --workers")
    if to is not None and to not in get_args(Form):
        raise ConfigError(f"to: found {to!r}; {nearest(to, get_args(Form))}")
    return out, cast("Form", to or "jsonl")
