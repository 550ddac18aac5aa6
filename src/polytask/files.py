"""Writing: whole files and folders, or nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polytask.errors import OutputError


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write a JSON file, whole or not at all."""
    _write(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a file of one JSON object a line, whole or not at all."""
    _write(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


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
