"""Rows that were given as Python objects, written to files, so that the run can be resumed from its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polytask.config.load import Config
from polytask.files import write_text
from polytask.options import DataOptions

ROWS = "rows"
_SPLITS = ("train", "dev", "test")


def with_row_files(config: Config, folder: Path, *, write: bool) -> Config:
    """Return a configuration in which rows given as Python objects are replaced by files in a folder.

    A file is named after its split and the hash of its content, so that equal rows share a file and the same call
    returns the same configuration.

    Args:
        folder: folder in which the subfolder `rows` is created if needed.
        write: whether to write the files; False in all processes but the first.

    Raises:
        OutputError: a file cannot be written.
    """
    place, texts = folder.resolve() / ROWS, dict[str, str]()
    tasks = {name: _with_files(task, place, texts) for name, task in config.tasks.items()}
    if not texts:
        return config
    if write:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            if not _holds(place / name, text):
                write_text(place / name, text)
    return config.model_copy(update={"tasks": tasks})


def _with_files(task: Any, place: Path, texts: dict[str, str]) -> Any:  # noqa: ANN401
    data: DataOptions = task.data
    # Options about file formats are meant for another split's files, and would apply to these files too.
    if any(getattr(data, name) is not None for name in ("format", "encoding", "separator", "quoting")):
        return task
    files: dict[str, str] = {}
    for split in _SPLITS:
        rows = getattr(data, split)
        if isinstance(rows, tuple) and rows and isinstance(rows[0], Mapping):
            text = _lines(rows)
            name = f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"
            files[split], texts[name] = str(place / name), text
    return task.model_copy(update={"data": data.model_copy(update=files)}) if files else task


def _lines(rows: tuple[Mapping[str, Any], ...]) -> str:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot encode
        text = "".join(json.dumps(row) + "\n" for row in rows)
    return text


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
