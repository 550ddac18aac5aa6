"""A sample of a file's rows, and how the file is written, as far as it can be seen without asking."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from polytask.data.files import DataFile, require_file
from polytask.data.readers import rows_of
from polytask.errors import DataError
from polytask.options import FileOptions
from polytask.tabular import cells_of

# Rows that are looked at: so many from all of the file, and so many from its beginning.
MOST_ROWS = 5000
FIRST_ROWS = 2000
_SEPARATORS = ",;\t|"
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Sample:
    """What was seen of a file.

    Attributes:
        written: what has to be said beside the path.
        count: rows of the file.
        rows: a sample, drawn evenly.
        first: the first rows, as they stand in the file.
    """

    path: Path
    written: FileOptions
    count: int
    rows: list[dict[str, Any]]
    first: list[dict[str, Any]]

    @property
    def format(self) -> str:
        """The file's format."""
        return DataFile(self.path, self.written).format

    @property
    def columns(self) -> list[str]:
        """The columns that any of the rows has, in their order."""
        return list(dict.fromkeys(name for row in (*self.first[:100], *self.rows) for name in row))


def read_sample(path: Path, given: FileOptions) -> Sample:
    """Read all of a file and keep a sample. Raises DataError where it cannot be read, or holds no rows."""
    require_file(path)
    written = _written(path, given)
    drawn = random.Random(0)
    rows: list[dict[str, Any]] = []
    first: list[dict[str, Any]] = []
    count = 0
    for row in _rows(path, written):
        count += 1
        if count <= FIRST_ROWS:
            first.append(row)
        if count <= MOST_ROWS:
            rows.append(row)
        elif (at := drawn.randrange(count)) < MOST_ROWS:
            rows[at] = row
    if not count:
        raise DataError(f"{path}: the file holds no rows")
    return Sample(path, written, count, rows, first)


def _rows(path: Path, written: FileOptions) -> Iterator[dict[str, Any]]:
    for number, row in rows_of(DataFile(path, written)):
        try:
            yield cells_of(row)
        except RecursionError:
            raise DataError(f"{path}:{number}: a value is nested too deeply") from None


def _written(path: Path, given: FileOptions) -> FileOptions:
    """Add what the first bytes and lines tell of how a file is written."""
    found: dict[str, Any] = {}
    if given.encoding is None and given.format != "parquet" and path.suffix != ".parquet":
        with path.open("rb") as stream:
            head = stream.read(4)
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if encoding is not None and not head.startswith(b"\xff\xfe\x00\x00"):
            found["encoding"] = encoding
    settled = given.model_copy(update=found)
    form = DataFile(path, settled).format
    if form in ("csv", "tsv") and given.separator is None:
        found["separator"] = _separator(DataFile(path, settled), "," if form == "csv" else "\t")
    if form == "jsonl" and given.format is None and _is_one_list(DataFile(path, settled)):
        found["format"] = "json"
    return given.model_copy(update={key: value for key, value in found.items() if value is not None})


def _separator(file: DataFile, usual: str) -> str | None:
    """Return what stands between the columns, where that is not the usual character and every first line agrees."""
    lines = [line.rstrip("\r\n") for _, line in islice(file.raw_lines(), 20)]
    lines = [line for line in lines if line]
    if not lines or usual in lines[0] or lines[0].lower().startswith("sep="):
        return None
    for separator in _SEPARATORS:
        if separator != usual and separator in lines[0] and all(separator in line for line in lines):
            return separator
    return None


def _is_one_list(file: DataFile) -> bool:
    """Whether a file that is named jsonl is one JSON list of objects."""
    line = next((line.strip() for _, line in file.raw_lines() if line.strip()), "")
    if not line.startswith("["):
        return False
    try:
        next(rows_of(file), None)
    except DataError:
        return True
    return False
