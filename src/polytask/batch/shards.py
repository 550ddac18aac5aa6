"""Shards: stretches of a file's rows that are answered together, and written as one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from polytask.batch.answering import Row, UnreadableRow
from polytask.batch.reading import FileRows, Input
from polytask.errors import DataError
from polytask.predict.predictor import BLOCK_CHARACTERS

# By default, the rows of a shard: eight blocks of prediction. What a killed process loses is no more than this.
SHARD_ROWS = 8192


@dataclass(frozen=True)
class Shard:
    """Some rows of a file.

    Attributes:
        file: the file's place among the inputs.
        number: the shard's place in the file, from 0.
        path: the file.
        last: whether it ends the file.
        size: the bytes of the file that the rows take, about.
    """

    file: int
    number: int
    path: str
    rows: tuple[tuple[int, Row | UnreadableRow], ...] = field(repr=False)
    last: bool
    size: int

    @property
    def key(self) -> tuple[int, int]:
        """The places of its file and of itself."""
        return self.file, self.number

    def told(self) -> str:
        """Say for a person which rows these are."""
        return f"{self.path}: rows {self.rows[0][0]} to {self.rows[-1][0]}"


def shards_of(
    place: int, file: Input, written: Mapping[str, str], rows: int, say: Callable[[str], None]
) -> Iterator[Shard]:
    """Cut a file into shards, which depend on its content alone; a file without rows is one shard without rows.

    Args:
        place: the file's place among the inputs.
        rows: of a shard, at most.
        say: is told how the file was read, at its end.

    Raises DataError where the file was changed while it was read.
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
    """Yield stretches of rows, and whether each is the last."""
    held: list[tuple[int, Row | UnreadableRow]] = []
    size = 0
    for numbered in rows:
        if len(held) == most or size >= BLOCK_CHARACTERS:
            yield tuple(held), False
            held, size = [], 0
        held.append(numbered)
        size += _weight(numbered[1])
    yield tuple(held), True


def _weight(value: Any) -> int:  # noqa: ANN401
    """Return about how many characters a value takes."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_weight(item) for item in value.values())
    return sum(_weight(item) for item in value) if isinstance(value, list | tuple) else 8


def _require_unchanged(file: Input, reading: FileRows) -> None:
    status = reading.source.path.stat()
    if (status.st_size, status.st_mtime_ns) != (file.size, file.changed):
        raise DataError(
            f"{file.path}: the file was changed while it was being read; name another folder, and begin anew"
        )
