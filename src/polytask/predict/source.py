"""What is answered: a file as training reads it, or texts, one a line."""

from __future__ import annotations

import io
import json
import os
import shlex
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
from polytask.options import Format, read_file_options
from polytask.regular import is_file, is_there

# Line (or row of parquet), and a text or the columns of a row.
Numbered: TypeAlias = "Iterator[tuple[int, str | dict[str, Any]]]"
STDIN = "-"
# Blank lines at the beginning, after which a file is one of texts.
_MOST_BLANK = 1000


@dataclass(frozen=True)
class PredictionSource(DataFile):
    """A file to be answered; stdin, where its path is `-`.

    Attributes:
        texts: whether each line is a text, whatever it looks like.
        opened: the file, as often as it was opened.
    """

    texts: bool = False
    opened: list[io.BufferedReader] = field(default_factory=list[io.BufferedReader])

    @classmethod
    def of(
        cls, name: str, written: Mapping[str, str] | None = None, refused: Callable[[int, str], None] | None = None
    ) -> PredictionSource:
        """Describe a file.

        Args:
            written: how it is written: the options beside a path, and `format: text`.
            refused: takes the rows that cannot be read.

        Raises DataError when it is not there, ConfigError for an option that is none.
        """
        options = dict(written or {})
        texts = options.get("format") == "text"
        if texts:
            del options["format"]
        path = Path(name)
        # A pipe is there as well, and is no file.
        if name != STDIN and not is_there(path):
            _require_no_text(path)
            require_file(path)
        return cls(path, read_file_options(options), ReadingNotes(), refused, texts)

    @property
    def known_format(self) -> Format | None:
        """The format that was given or that the extension tells; None where the lines tell it, or are texts."""
        return None if self.texts else self.options.format or find_format(self.path)

    @cached_property
    def size(self) -> int | None:
        """Bytes of the file; None where they are not read one after another, or are not known."""
        return self.path.stat().st_size if self._is_file and self.known_format != "parquet" else None

    @property
    def position(self) -> int:
        """Bytes of the file that were read so far; of a compressed one, as it lies on the disk."""
        if self.size is None or not self.opened:
            return 0
        return self.size if self.opened[0].closed else self.opened[0].tell()

    @property
    def _is_file(self) -> bool:
        return str(self.path) != STDIN and is_file(self.path)

    def open(self) -> io.BufferedReader:
        """Open the file, or stdin. Raises DataError where what can be read only once is asked for again."""
        if self.opened and not self._is_file:
            raise DataError(f"{self.path}: has to be read twice to be understood; save it as a file first")
        # Closed by `close`; a descriptor of its own, so that stdin stays open.
        place = os.dup(sys.stdin.fileno()) if str(self.path) == STDIN else self.path
        stream = open(place, "rb")  # noqa: SIM115, PTH123
        self.opened.append(stream)
        return stream

    def close(self) -> None:
        """Close what was opened."""
        for stream in self.opened:
            stream.close()

    def rows(self) -> Numbered:
        """Yield what is answered, with its line. Raises DataError for what cannot be read."""
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
    """Raise DataError where a text seems to be given in place of a file."""
    text = str(path)[:200]
    if find_format(path) is None and path.suffix != ".txt" and (" " in text.strip() or not text.isascii()):
        raise DataError(
            f"{text}: no such file; a text itself is read from the standard input: "
            f"echo {shlex.quote(text)} | polytask predict MODEL"
        )


def _lines(file: PredictionSource) -> Numbered:
    """Yield texts, one a line, or the rows of jsonl where the first line that is not blank is a JSON object."""
    options = file.options
    if (options.separator, options.quoting, options.sentence) != (None, None, None):
        raise DataError(
            f"{file.path}: is read as texts, one a line, or jsonl, where only `encoding` says something; give `format` "
            "as well"
        )
    lines = file.lines()
    head = _head(lines)
    if head and not file.texts:
        if isinstance(_parsed(head[-1][1]), dict):
            return read_objects(file, chain(head[-1:], lines))
        _require_text(file, *head[-1])
    return _texts(file, chain(head, lines))


def _texts(file: PredictionSource, lines: Iterator[tuple[int, str]]) -> Numbered:
    """Yield every line, blank ones too: as many answers as lines."""
    for number, line in lines:
        if "\0" in line:
            raise DataError(f"{file.place(number)}: holds a NUL character, so the file is no text, or is damaged")
        text = line.rstrip("\r")
        if number == 1 and "\r" in text:
            second = next(lines, None)
            if second is None:
                raise DataError(f"{file.path}: the lines end in carriage returns alone; save the file with LF or CRLF")
            lines = chain([second], lines)
        yield number, text


def _head(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Take the blank lines at the beginning, and the first other one."""
    head: list[tuple[int, str]] = []
    for numbered in lines:
        head.append(numbered)
        if numbered[1].strip() or len(head) == _MOST_BLANK:
            break
    return head


def _require_text(file: PredictionSource, number: int, line: str) -> None:
    """Raise DataError where the first line seems to be JSON in another form than one object a line."""
    text = line.strip()
    value = _parsed(text)
    has_objects = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    if has_objects or text in ("[", "{") or (text.startswith(('{"', '[{"')) and value is None):
        raise DataError(
            f"{file.place(number)}: begins as JSON, and is not one object a line; name the file .json or .jsonl, or "
            "give `format: json` or `format: jsonl` (`format: text` where each line is a text)"
        )


def _parsed(text: str) -> Any:  # noqa: ANN401
    """Parse a line as JSON; None when it is not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
