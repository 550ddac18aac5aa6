"""A sample of a file's rows, and the file's format as far as it can be detected."""

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
from polytask.options import LabelledFileOptions
from polytask.tabular import cells_of

# Number of sampled rows: from the whole file, and from its beginning.
MOST_ROWS = 5000
FIRST_ROWS = 2000
_SEPARATORS = ",;\t|"
_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Sample:
    """A sample of a file.

    Attributes:
        written: options about the file's format that have to be given next to the path.
        guess: note for the user on how the encoding was guessed; empty if it is certain.
        count: number of rows of the file.
        rows: a uniform random sample.
        first: the first rows, in the order of the file.
    """

    path: Path
    written: LabelledFileOptions
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
        """The columns that occur in any of the rows, in order."""
        return list(dict.fromkeys(name for row in (*self.first[:100], *self.rows) for name in row))


def read_sample(path: Path, options: LabelledFileOptions) -> Sample:
    """Read a whole file and keep a sample. Raises DataError if the file cannot be read or has no rows."""
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


def _rows(path: Path, written: LabelledFileOptions) -> Iterator[dict[str, Any]]:
    for number, row in rows_of(DataFile(path, written)):
        try:
            yield cells_of(row)
        except RecursionError:
            raise DataError(f"{path}:{number}: a value is nested too deeply") from None


def _with_encoding(path: Path, options: LabelledFileOptions) -> tuple[LabelledFileOptions, str]:
    """Add the encoding according to the byte order mark or the bytes, and return a note for the user."""
    if options.encoding is not None or DataFile(path, options).format == "parquet":
        return options, ""
    with path.open("rb") as stream:
        head = stream.read(4)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None and not head.startswith(b"\xff\xfe\x00\x00"):
        return options.model_copy(update={"encoding": marked}), ""
    likely = DataFile(path, options).likely_encoding()
    if likely is None or likely.name is None:
        return options, ""
    such = "with --written encoding=NAME" if likely.other is None else f"such as --written encoding={likely.other}"
    guess = (
        f"{path.name} is not UTF-8 and is read as {likely.name}, the most likely encoding: "
        f"{_around_letter(likely.line)!r}; if letters in this text are wrong, name another one, {such}"
    )
    return options.model_copy(update={"encoding": likely.name}), guess


def _around_letter(line: str) -> str:
    """Return a part of a line with a non-ASCII letter, from the beginning of the line if possible."""
    place = next((place for place, character in enumerate(line) if not character.isascii()), 0)
    start = max(0, place - 30)
    return line[start : start + 50]


def _written(path: Path, options: LabelledFileOptions) -> LabelledFileOptions:
    """Add the options about the format that the first lines show."""
    detected: dict[str, Any] = {}
    form = DataFile(path, options).format
    if form in ("csv", "tsv") and options.separator is None:
        detected["separator"] = _separator(DataFile(path, options), "," if form == "csv" else "\t")
    if form == "jsonl" and options.format is None and _is_one_list(DataFile(path, options)):
        detected["format"] = "json"
    return options.model_copy(update={key: value for key, value in detected.items() if value is not None})


def _separator(file: DataFile, usual: str) -> str | None:
    """Return the separator if it is not the usual character and all of the first lines contain it."""
    lines = [line.rstrip("\r\n") for _, line in islice(file.raw_lines(), 20)]
    lines = [line for line in lines if line]
    if not lines or usual in lines[0] or lines[0].lower().startswith("sep="):
        return None
    for separator in _SEPARATORS:
        if separator != usual and separator in lines[0] and all(separator in line for line in lines):
            return separator
    return None


def _is_one_list(file: DataFile) -> bool:
    """Whether a file named jsonl is really one JSON list of objects."""
    line = next((line.strip() for _, line in file.raw_lines() if line.strip()), "")
    if not line.startswith("["):
        return False
    try:
        next(rows_of(file), None)
    except DataError:
        return True
    return False
