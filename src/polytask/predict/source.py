"""Input of prediction: a file in a format that training reads, or texts, one per line."""

from __future__ import annotations

import io
import json
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from polytask.data.files import DataFile, ReadingNotes
from polytask.data.paths import find_format, require_file
from polytask.data.readers import read_objects, rows_of
from polytask.errors import DataError, MissingExtra, missing_extra
from polytask.options import FileOptions, Format, read_file_options
from polytask.regular import is_file, is_there

# Line number (row number in Parquet), and a text or the columns of a row.
Numbered: TypeAlias = "Iterator[tuple[int, str | dict[str, Any]]]"
STDIN = "-"
# Number of blank lines at the beginning after which a file counts as text.
_MOST_BLANK = 1000


@dataclass(frozen=True)
class PredictionSource(DataFile):
    """A file to predict, or stdin if its path is `-`.

    Attributes:
        texts: whether each line is a text, whatever it looks like.
        opened: all open handles of the file.
    """

    texts: bool = False
    opened: list[io.BufferedReader] = field(default_factory=list[io.BufferedReader])

    @classmethod
    def of(
        cls, name: str, written: Mapping[str, str] | None = None, refused: Callable[[int, str], None] | None = None
    ) -> PredictionSource:
        """Describe a file.

        Args:
            name: path of the file, or `-`.
            written: options for reading the file, as next to a path, and `format: text`.
            refused: called with each row that cannot be read.

        Raises DataError if the file is missing, ConfigError for an unknown option.
        """
        options = dict(written or {})
        texts = options.get("format") == "text"
        if texts:
            del options["format"]
        path = Path(name)
        # A pipe exists too, but is not a file.
        if name != STDIN and not is_there(path):
            _require_no_text(path)
            require_file(path)
        return cls(path, read_file_options(FileOptions, options), ReadingNotes(), refused, texts)

    @property
    def known_format(self) -> Format | None:
        """The format, as given or from the extension; None if it depends on the lines."""
        return None if self.texts else self.options.format or find_format(self.path)

    @cached_property
    def size(self) -> int | None:
        """Size of the file in bytes; None if unknown or not read sequentially."""
        return self.path.stat().st_size if self._is_file and self.known_format != "parquet" else None

    @property
    def position(self) -> int:
        """Number of bytes of the file read so far; compressed bytes for a compressed file."""
        if self.size is None or not self.opened:
            return 0
        return self.size if self.opened[0].closed else self.opened[0].tell()

    @property
    def _is_file(self) -> bool:
        return str(self.path) != STDIN and is_file(self.path)

    def is_at(self, path: Path) -> bool:
        """Whether a path leads to this file (or to the one that is the standard input), also by a link."""
        try:
            own = os.fstat(sys.stdin.fileno()) if str(self.path) == STDIN else self.path.stat()
            return stat.S_ISREG(own.st_mode) and os.path.samestat(own, path.stat())
        except (OSError, ValueError, AttributeError):  # nothing is there, or stdin has been replaced by an object
            return False

    def open(self) -> io.BufferedReader:
        """Open the file, or stdin. Raises DataError if something that can be read only once is opened again."""
        if self.opened and not self._is_file:
            raise DataError(f"{self.path}: has to be read twice; save it as a file first")
        # Closed by `close`; a separate descriptor, so that stdin stays open.
        place = os.dup(sys.stdin.fileno()) if str(self.path) == STDIN else self.path
        stream = open(place, "rb")  # noqa: SIM115, PTH123
        self.opened.append(stream)
        return stream

    def close(self) -> None:
        """Close all open handles."""
        for stream in self.opened:
            stream.close()

    def rows(self) -> Numbered:
        """Yield the texts or rows with their line numbers. Raises DataError for unreadable content."""
        if self.known_format is None:
            yield from _lines(self)
            return
        if self.known_format == "parquet" and not self._is_file:
            raise DataError(f"{self.path}: parquet is read from a file; save it as one first")
        try:
            yield from rows_of(self)
        except ModuleNotFoundError as error:
            if missing_extra(error) is None:
                raise
            raise MissingExtra(str(error.name), "train", f"{self.path}, a file of {self.known_format},") from None


def _require_no_text(path: Path) -> None:
    """Raise DataError if a text seems to be given instead of a file."""
    text = str(path)[:200]
    if find_format(path) is None and path.suffix != ".txt" and (" " in text.strip() or not text.isascii()):
        raise DataError(
            f"{text}: no such file; a text itself is read from the standard input: "
            f"echo {shlex.quote(text)} | polytask predict MODEL"
        )


def _lines(file: PredictionSource) -> Numbered:
    """Yield texts, one per line, or the rows of jsonl if the first non-blank line is a JSON object."""
    options = file.options
    if (options.separator, options.quoting, options.sentence) != (None, None, None):
        raise DataError(
            f"{file.path}: is read as texts, one per line, or jsonl, for which only `encoding` has an effect; "
            "give `format` as well"
        )
    lines = file.lines()
    head = _head(lines)
    if head and not file.texts:
        if isinstance(_parsed(head[-1][1]), dict):
            return read_objects(file, chain(head[-1:], lines))
        _require_text(file, *head[-1])
    return _texts(file, chain(head, lines))


def _texts(file: PredictionSource, lines: Iterator[tuple[int, str]]) -> Numbered:
    """Yield every line, including blank ones, so that there are as many predictions as lines."""
    for number, line in lines:
        if "\0" in line:
            raise DataError(f"{file.place(number)}: holds a NUL character, so the file is not text, or is damaged")
        text = line.rstrip("\r")
        if number == 1 and "\r" in text:
            second = next(lines, None)
            if second is None:
                raise DataError(f"{file.path}: the lines end in carriage returns alone; save the file with LF or CRLF")
            lines = chain([second], lines)
        yield number, text


def _head(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the leading blank lines and the first other line."""
    head: list[tuple[int, str]] = []
    for numbered in lines:
        head.append(numbered)
        if numbered[1].strip() or len(head) == _MOST_BLANK:
            break
    return head


def _require_text(file: PredictionSource, number: int, line: str) -> None:
    """Raise DataError if the first line looks like JSON in another form than one object per line."""
    text = line.strip()
    value = _parsed(text)
    has_objects = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    if has_objects or text in ("[", "{") or (text.startswith(('{"', '[{"')) and value is None):
        raise DataError(
            f"{file.place(number)}: begins like JSON, but is not one object per line; name the file .json or .jsonl, "
            "or give `format: json` or `format: jsonl` (`format: text` where each line is a text)"
        )


def _parsed(text: str) -> Any:  # noqa: ANN401
    """Parse a line as JSON; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
