"""Writing: whole files and folders, or nothing at all."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polytask.errors import OutputError, TrainingError


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write a JSON file, whole or not at all."""
    _write(path, to_json(value, path.name, indent=1) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a file of one JSON object a line, whole or not at all."""
    _write(path, "".join(to_json(value, path.name) + "\n" for value in values))


def to_json(value: Any, place: str, indent: int | None = None) -> str:  # noqa: ANN401
    """Return a value as JSON, which has no word for what is not a number.

    Raises TrainingError naming the value that is not finite: whoever reads `NaN` takes it for a number, or stops there.
    """
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        found = next(_not_finite(value, ()), None)
        if found is None:
            raise
        raise TrainingError(f"{place}: {found}; the training diverged: try a lower train.learning_rate") from None


def _not_finite(value: Any, path: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{'.'.join(path)} is {value}"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in inner:
        yield from _not_finite(item, (*path, str(key)))


@contextmanager
def new_folder(folder: Path, *also: type[Exception]) -> Generator[Path]:
    """Give a temporary folder that becomes a model's folder at the end; nothing is left of it where that fails.

    Args:
        also: what else than OSError means that it cannot be written.

    Raises OutputError when the folder exists or cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: the folder exists; name another one")
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(folder)
    except (OSError, *also) as error:
        raise OutputError(f"{folder}: the model cannot be written ({error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
