"""Arguments that people pass to the functions of the package: folders, lists of names and texts, functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
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


def folders_in(value: Any, place: str) -> list[Any]:  # noqa: ANN401
    """Return the folders of an argument, one or several; what each of them is remains to be checked."""
    return [value] if isinstance(value, str | os.PathLike) else _items(value, place, "a list of folders")


def split_names(text: str) -> list[str]:
    """Split a comma-separated list of names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def names_in(value: Any, place: str) -> list[str]:  # noqa: ANN401
    """Return the names of an argument: a list, or a text with one or several, separated by commas.

    >>> names_in("sentiment, topic", "tasks"), names_in(("topic",), "tasks")
    (['sentiment', 'topic'], ['topic'])

    Raises ConfigError for anything else.
    """
    if isinstance(value, str):
        return split_names(value)
    return _texts(value, place, "a list of names, or a text such as 'a,b'")


def texts_in(value: Any, place: str, example: str) -> list[str]:  # noqa: ANN401
    """Return the texts of an argument: a list, or a single one. Raises ConfigError for anything else."""
    expected = f"a list of texts such as {example!r}, or one of them"
    if isinstance(value, Mapping):
        raise ConfigError(f"{place}: found {describe(value)}; expected {expected}")
    return [value] if isinstance(value, str) else _texts(value, place, expected)


def functions_in(value: Any, place: str) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the functions of an argument: a list, or a single one. Raises ConfigError for anything else."""
    if callable(value):
        return (value,)
    expected = "a list of functions, or one of them"
    functions = tuple(_items(value, place, expected))
    for function in functions:
        if not callable(function):
            raise ConfigError(f"{place}: found {describe(function)} among them; expected {expected}")
    return functions


def _texts(value: Any, place: str, expected: str) -> list[str]:  # noqa: ANN401
    texts = _items(value, place, expected)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{place}: found {describe(text)} among them; expected {expected}")
    return texts


def _items(value: Any, place: str, expected: str) -> list[Any]:  # noqa: ANN401
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return list(value)
    raise ConfigError(f"{place}: found {describe(value)}; expected {expected}")


def describe(value: Any) -> str:  # noqa: ANN401
    """Return a short description of a value, for messages.

    >>> describe(None), describe(3), describe([1, 2])
    ('None', '3', 'a value of type list')
    """
    if value is None or isinstance(value, int | float | str):
        return repr(value)[:100]
    return f"a value of type {type(value).__name__}"
