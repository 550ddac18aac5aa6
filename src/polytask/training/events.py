"""The event log: one JSON object a line with `event` and `step`, written as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from polytask.errors import MissingExtra
from polytask.files import to_json


class Events:
    """Appends to RUN/events.jsonl and, when asked, to TensorBoard; without a folder it does nothing."""

    def __init__(self, folder: Path | None, *, tensorboard: bool = False) -> None:
        self._path = None if folder is None else folder / "events.jsonl"
        self._file = None if self._path is None else self._path.open("a", encoding="utf-8")
        self._board = _board(folder / "tensorboard") if folder is not None and tensorboard else None

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one event."""
        if self._file is None:
            return
        record = {"event": event, "step": step, "time": round(time.time(), 3), **values}
        self._file.write(to_json(record, event) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _numbers(event, values):
                self._board.add_scalar(name, value, step)

    def cut_after(self, step: int) -> None:
        """Drop what was logged after a checkpoint: the resumed run will log it again."""
        if self._path is None or self._file is None:
            return
        self._file.close()
        kept: list[str] = []
        for line in self._path.read_text("utf-8").splitlines(keepends=True):
            # A line cut short by a kill is no JSON.
            if line.endswith("}\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        temporary = self._path.with_name(".events.jsonl")
        temporary.write_text("".join(kept), "utf-8")
        temporary.replace(self._path)
        self._file = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _numbers(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.extend(_numbers(f"{prefix}/{key}", value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}/{key}", float(value)))
    return found


def _board(folder: Path) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard", "train.tensorboard") from None
    return SummaryWriter(str(folder))
