"""A sample of a file's rows, and how the file is written, as far as it can be seen without asking."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from polytask.data.files import DataFile
from polytask.data.paths import require_file
from polytask.data.readers import rows_of
from polytask.errors import DataError
from polytask.options import FileOptions
from polytask.tabular import cells_of

# Rows that are looked at: so many from all of the file, and so many from its beginning.
MOST_ROWS = 5000
FIRST_ROWS = 2000
_SEPARATORS = ",;\t|"
# What a file may be in that looks to be in one of these.
_OTHERS = {"cp1252": "cp1250", "cp1251": "koi8-r", "gb18030": "big5", "euc-kr": "gb18030"}
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Sample:
    """What was seen of a file.

    Attributes:
        written: what has to be said beside the path.
        guess: what a person should know of how that was told; empty where it is certain.
        count: rows of the file.
        rows: a sample, drawn evenly.
        first: the first rows, as they stand in the file.
    """

    path: Path
    written: FileOptions
    count: int
    rows: list[dict[str, Any]]
    first: list[dict[str, Any]]
    guess: str = ""

    @property
    def format(self) -> str:
        """The file's format."""
        return DataFile(self.path, self.written).format

    @property
    def columns(self) -> list[str]:
        """The columns that any of the rows has, in their order."""
        return list(dict.fromkeys(name for row in (*self.first[:100], *self.rows) for name in row))


def read_sample(path: Path, options: FileOptions) -> Sample:
    """Read all of a file and keep a sample. Raises DataError where it cannot be read, or holds no rows."""
    require_file(path)
    options, guess = _with_encoding(path, options)
    written = _written(path, options)
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
    return Sample(path, written, count, rows, first, guess)


def _rows(path: Path, written: FileOptions) -> Iterator[dict[str, Any]]:
    for number, row in rows_of(DataFile(path, written)):
        try:
            yield cells_of(row)
        except RecursionError:
            raise DataError(f"{path}:{number}: a value is nested too deeply") from None


def _with_encoding(path: Path, options: FileOptions) -> tuple[FileOptions, str]:
    """Add the encoding that a file's mark or its bytes tell, and what a person should know of that."""
    if options.encoding is not None or DataFile(path, options).format == "parquet":
        return options, ""
    with path.open("rb") as stream:
        head = stream.read(4)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None and not head.startswith(b"\xff\xfe\x00\x00"):
        return options.model_copy(update={"encoding": marked}), ""
    likely = DataFile(path, options).likely_encoding()
    if likely is None:
        return options, ""
    encoding, line = likely
    guess = (
        f"{path.name} is not UTF-8, and is read as {encoding}, which its bytes look like: {_around_letter(line)!r}; "
        f"if letters of that are wrong, name another one, such as --written encoding={_OTHERS[encoding]}"
    )
    return options.model_copy(update={"encoding": encoding}), guess


def _around_letter(line: str) -> str:
    """Return a part of a line that holds a letter which is not ASCII, from the beginning where it can be."""
    place = next((place for place, character in enumerate(line) if not character.isascii()), 0)
    start = max(0, place - 30)
    return line[start : start + 50]


def _written(path: Path, options: FileOptions) -> FileOptions:
    """Add what the first lines tell of how a file is written."""
    found: dict[str, Any] = {}
    form = DataFile(path, options).format
    if form in ("csv", "tsv") and options.separator is None:
        found["separator"] = _separator(DataFile(path, options), "," if form == "csv" else "\t")
    if form == "jsonl" and options.format is None and _is_one_list(DataFile(path, options)):
        found["format"] = "json"
    return options.model_copy(update={key: value for key, value in found.items() if value is not None})


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
