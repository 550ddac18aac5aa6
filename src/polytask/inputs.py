"""Arguments that people pass to the functions of the package: folders of models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from polytask.errors import ConfigError


def folder_of(value: Any, place: str) -> Path:  # noqa: ANN401
    """Return the folder that an argument names: a path, or a run or another result that was written into a folder.

    Args:
        value: the argument.
        place: its name, for messages.

    Raises ConfigError for any other value.
    """
    if isinstance(value, str | os.PathLike) and not (isinstance(value, str) and not value):
        return Path(value)
    raise ConfigError(
        f"{place}: found {describe(value)}; expected the path of a folder, or a run that was written into one; a model "
        "in memory is written by model.save(FOLDER)"
    )


def describe(value: Any) -> str:  # noqa: ANN401
    """Return a short description of a value, for messages.

    >>> describe(None), describe(3), describe([1, 2])
    ('None', '3', 'a value of type list')
    """
    if value is None or isinstance(value, int | float | str):
        return repr(value)[:100]
    return f"a value of type {type(value).__name__}"
