"""Shards: consecutive rows of a file that are predicted together, and written as one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.batch.answering import Row, UnreadableRow
from polytask.batch.reading import FileRows, Input
from polytask.errors import DataError
from polytask.predict.predictor import BLOCK_CHARACTERS

# Default number of rows per shard: eight blocks of prediction. A killed process loses at most this many.
SHARD_ROWS = 8192


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a file.

    Attributes:
        file: index of the file among the inputs.
        number: index of the shard in the file, from 0.
        path: path of the file.
        last: whether it is the last shard of the file.
        size: approximate number of bytes of its rows.
    """

    file: int
    number: int
    path: str
    rows: tuple[tuple[int, Row | UnreadableRow], ...] = field(repr=False)
    last: bool
    size: int

    @property
    def key(self) -> tuple[int, int]:
        """The indices of its file and of the shard."""
        return self.file, self.number

    def describe(self) -> str:
        """Describe the rows of the shard."""
        return f"{self.path}: rows {self.rows[0][0]} to {self.rows[-1][0]}"


def shards_of(
    place: int, file: Input, written: Mapping[str, str], rows: int, say: Callable[[str], None]
) -> Iterator[Shard]:
    """Split a file into shards, depending only on its content; a file without rows is one empty shard.

    Args:
        place: index of the file among the inputs.
        file: the file.
        written: options for reading the file.
        rows: maximum number of rows of a shard.
        say: prints notes on how the file was read, at its end.

    Raises DataError if the file changed while it was read.
    """
    reading = FileRows(file.path, written)
    number = position = passed = 0
    for stretch, last in _stretches(reading.rows(), rows):
        passed += len(stretch)
        if last:
            _require_unchanged(file, reading)
            reached = file.size
        elif file.rows is not None:
            reached = file.size * passed // max(file.rows, 1)
        else:
            reached = reading.source.position
        yield Shard(place, number, file.path, stretch, last, reached - position)
        number, position = number + 1, reached
    for remark in reading.source.remarks.messages():
        say(f"note: {remark}")


def _stretches(
    rows: Iterable[tuple[int, Row | UnreadableRow]], most: int
) -> Iterator[tuple[tuple[tuple[int, Row | UnreadableRow], ...], bool]]:
    """Yield groups of consecutive rows, and whether each is the last."""
    group: list[tuple[int, Row | UnreadableRow]] = []
    size = 0
    for numbered in rows:
        if len(group) == most or size >= BLOCK_CHARACTERS:
            yield tuple(group), False
            group, size = [], 0
        group.append(numbered)
        size += _weight(numbered[1])
    yield tuple(group), True


def _weight(value: Any) -> int:  # noqa: ANN401
    """Return the approximate number of characters of a value."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_weight(item) for item in value.values())
    return sum(_weight(item) for item in value) if isinstance(value, list | tuple) else 8


def _require_unchanged(file: Input, reading: FileRows) -> None:
    status = reading.source.path.stat()
    if (status.st_size, status.st_mtime_ns) != (file.size, file.changed):
        raise DataError(f"{file.path}: the file changed while it was being read; name another folder, and start over")
