"""The event log: one JSON object per line with `event` and `step`, written as the run goes on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

from polytask.errors import MissingExtra, OutputError, TrainingError
from polytask.files import reason, to_json, write_text
from polytask.regular import read_bytes

LOG = logging.getLogger(__name__)


class Callback(Protocol):
    """Called with every event of a run, in the process that writes the log.

    The events are those of events.jsonl, such as start, step, evaluation and scores (docs/training.md). An exception
    that it raises ends the run.
    """

    def __call__(self, event: str, step: int, values: Mapping[str, Any], /) -> None: ...


class Events:
    """Appends to RUN/events.jsonl and, if requested, to TensorBoard; without a folder it only calls the callbacks."""

    def __init__(self, folder: Path | None, *, tensorboard: bool = False, callbacks: Sequence[Callback] = ()) -> None:
        self._callbacks = tuple(callbacks)
        self._path = None if folder is None else folder / "events.jsonl"
        self._file = None if self._path is None else _appending(self._path)
        self._board = _board(folder / "tensorboard") if folder is not None and tensorboard else None

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one event, and call each callback with its own copy of the values."""
        for callback in self._callbacks:
            callback(event, step, deepcopy(dict(values)))
        if self._file is None:
            return
        record = {"event": event, "step": step, "time": round(time.time(), 3), **values}
        try:
            self._file.write(to_json(record, event) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self._path}: cannot be written ({reason(error)}); free space, and go on with --resume from the last "
                "checkpoint"
            ) from None
        if self._board is not None:
            for name, value in _numbers(event, values):
                self._board.add_scalar(name, value, step)

    def cut_after(self, step: int) -> None:
        """Drop the events after a checkpoint: the resumed run will log them again."""
        if self._path is None or self._file is None:
            return
        self._file.close()
        kept: list[str] = []
        damaged: list[int] = []
        *lines, _ = read_bytes(self._path).split(b"\n")  # a kill may have cut the last one short
        for number, line in enumerate(lines, start=1):
            logged = _step_of(line)
            if logged is None:
                damaged.append(number)
            elif logged <= step:
                kept.append(line.decode())
        if damaged:
            count = "1 line was" if len(damaged) == 1 else f"{len(damaged)} lines were"
            LOG.warning("%s: %s damaged and left out, the first at line %d", self._path, count, damaged[0])
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._file = _appending(self._path)

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, already reported when the event was written
                self._file.close()
        if self._board is not None:
            self._board.close()


def _appending(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({reason(error)}); name another folder") from None


def _step_of(line: bytes) -> float | None:
    """Return the step of an event, or None if the line is no event."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int | float) else None


def _numbers(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, float]]:
    numbers: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            numbers.extend(_numbers(f"{prefix}/{key}", value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append((f"{prefix}/{key}", float(value)))
    return numbers


def _board(folder: Path) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard", "train.report_to") from None
    return SummaryWriter(str(folder))
