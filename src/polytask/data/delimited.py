"""Tables in text files: cells separated by commas, tabs or another character, below a header line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from polytask.data.files import MOST_LINE_BYTES, DataFile
from polytask.errors import DataError
from polytask.options import Quoting

# A record: the numbers of its first and last line, and its cells.
_Record = tuple[int, int, list[str]]
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "|"}
_QUOTES = ('"', "'")
_LINE_BREAKS = (
    "{count} cells hold line breaks, the first in the row at {place}; if a quote begins a cell by mistake, the "
    "lines up to the next quote are in that cell"
)
_HEADER_AGAIN = (
    "{count} lines repeat the header, as in files joined from several, and were skipped, the first at {place}"
)
_ALL_QUOTED = (
    "{count} lines have each cell in quotes, the first at {place}; these are read as ordinary characters here: if "
    "they enclose the cells, give `quoting: standard`, or, for single quotes, write double ones"
)
_FORMULA = re.compile(r'="([^"]*)"')
_FORMULAS = '{count} cells are written for Excel, as ="01", and were read as they appear there, the first at {place}'
_SPACED = (
    "{count} rows hold cells that begin with a space and a quote, the first at {place}; such quotes are read as "
    "ordinary characters: if they enclose the cells, remove the spaces after the separators"
)
_QUOTED = (
    "{count} cells begin and end with a quote and hold doubled quotes, the first at {place}; quotes are read as "
    "ordinary characters here: if the file was written with quoted cells, give `quoting: standard`"
)


def read_csv(file: DataFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read comma-separated rows with a header; quoted cells may hold separators, quotes and line breaks (RFC 4180)."""
    return _read_table(file, ",", "standard")


def read_tsv(file: DataFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read tab-separated rows with a header; quotes are ordinary characters, so every line is one row."""
    return _read_table(file, "\t", "none")


def _read_table(file: DataFile, separator: str, quoting: Quoting) -> Iterator[tuple[int, dict[str, Any]]]:
    separator = file.options.separator or separator
    lines = file.raw_lines()
    first = next(lines, None)
    declaration = None if first is None else re.fullmatch(r"sep=(.)\s*", first[1], re.IGNORECASE)
    if declaration is not None:  # a line that Excel writes above the header
        separator, first = file.options.separator or declaration[1], next(lines, None)
    if first is None:
        return
    if file.options.quoting is None and _is_quoted(first[1], separator):
        quoting = "standard"  # a file with quoted names has quoted cells
    quoting = file.options.quoting or quoting
    lines = chain([first], lines)
    records = _plain(file, lines, separator) if quoting == "none" else _Quoted(file, lines, separator, quoting)
    columns: list[str] | None = None
    for start, end, cells in _without_unnamed(records):
        if columns is None:
            columns = cells
            _require_header(file, start, columns, separator)
        elif len(cells) != len(columns):
            file.refuse(start, _wrong_width(file, (start, end), cells, len(columns), quoting))
        elif len(columns) > 1 and _is_header_again(cells, columns):
            file.remarks.add(_HEADER_AGAIN, file.place(start))
        else:
            if all(cell[:1] in _QUOTES and cell[:1] == cell[-1:] and len(cell) > 1 for cell in cells):
                file.remarks.add(_ALL_QUOTED, file.place(start))
            if quoting != "none" and any(cell[:2] == ' "' and cell[-1] == '"' for cell in cells):
                file.remarks.add(_SPACED, file.place(start))
            yield start, {name: _without_formula(file, start, cell) for name, cell in zip(columns, cells, strict=True)}


def _is_header_again(cells: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether cells are the names of their columns, perhaps in capital letters."""
    # Every row passes here, and most end at the length of their first cell.
    return len(cells) == len(columns) and all(
        len(cell) == len(name) and cell.casefold() == name.casefold() for cell, name in zip(cells, columns, strict=True)
    )


def _without_unnamed(records: Iterable[_Record]) -> Iterator[_Record]:
    """Leave out unnamed columns at the end, from tables that were saved with empty columns.

    Rows with a value there keep their width.
    """
    width = named = None
    for start, end, cells in records:
        if width is None or named is None:
            width = named = len(cells)
            while named and not cells[named - 1]:
                named -= 1
            named = named if width - named > 1 else width
        yield start, end, cells[:named] if len(cells) == width and not any(cells[named:]) else cells


def _without_formula(file: DataFile, line: int, cell: str) -> str:
    """Return the text of a cell written as a formula to keep its zeros: `="01"`."""
    if cell[:2] != '="':
        return cell
    formula = _FORMULA.fullmatch(cell)
    if formula is None:
        return cell
    file.remarks.add(_FORMULAS, file.place(line))
    return formula[1]


def _is_quoted(header: str, separator: str) -> bool:
    """Whether every name of a header line is in quotes."""
    return all(re.fullmatch(r'"[^"]+"', name) for name in header.rstrip("\r\n").split(separator))


def _plain(file: DataFile, lines: Iterator[tuple[int, str]], separator: str) -> Iterator[_Record]:
    """Yield lines split at the separator, without blank ones."""
    for number, line in lines:
        text = line.removesuffix("\n").removesuffix("\r")
        if not text:
            continue
        cells = text.split(separator)
        if '""' in text:
            for cell in cells:
                inner = cell[1:-1]
                if cell[:1] == cell[-1:] == '"' and '""' in inner and '"' not in inner.replace('""', ""):
                    file.remarks.add(_QUOTED, file.place(number))
        yield number, number, cells


class _Quoted:
    """Records whose cells may be quoted."""

    def __init__(self, file: DataFile, lines: Iterator[tuple[int, str]], separator: str, quoting: Quoting) -> None:
        self.file = file
        self.lines = lines
        self.separator = separator
        self.escape = "\\" if quoting == "backslash" else None
        # The lines of the record that is being read.
        self.record: list[str] = []
        self.start = self.last = 1

    def __iter__(self) -> Iterator[_Record]:
        csv.field_size_limit(MOST_LINE_BYTES)
        rows = csv.reader(
            self._read_lines(), delimiter=self.separator, strict=True, escapechar=self.escape, doublequote=True
        )
        try:
            for cells in rows:
                if cells:
                    self._count_breaks(cells)
                    yield self.start, self.last, cells
                self.record.clear()
        except csv.Error as error:
            raise DataError(self._broken(error)) from None

    def _read_lines(self) -> Iterator[str]:
        for number, line in self.lines:
            self.start, self.last = self.start if self.record else number, number
            self.record.append(line)
            yield line

    def _count_breaks(self, cells: Sequence[str]) -> None:
        if len(self.record) > 1:
            for cell in cells:
                if "\n" in cell:
                    self.file.remarks.add(_LINE_BREAKS, self.file.place(self.start))

    def _broken(self, error: csv.Error) -> str:
        """Return a message about a quote that is not closed properly, with the place where it was opened."""
        if "new-line character" in str(error):
            return (
                f"{self.file.place(self.start)}: found a carriage return outside quotes; "
                "save the file with line ends LF or CRLF"
            )
        opened = self.start + _opening_line("".join(self.record), self.separator, self.escape)
        where = "on this line" if opened == self.last else f"down to line {self.last}"
        escaped = '\\"' in "".join(self.record)
        other = "`quoting: backslash`" if escaped else "`quoting: none` if quotes are ordinary characters"
        return (
            f"{self.file.place(opened)}: a quote opens a cell here, and is not closed properly {where}; check "
            'the quotes on this line: one inside a quoted cell is written twice (""); or give '
            f"{other}"
        )


def _opening_line(text: str, separator: str, escape: str | None) -> int:
    """Return the index of the line of a broken record in which the unreadable quoted cell begins."""
    opened = line = 0
    state = "begin"  # of a cell; or "plain", "quoted", "closed"
    index = 0
    while index < len(text):
        character = text[index]
        line += character == "\n"
        if character == escape:
            index += 1
        elif state == "quoted":
            state = "closed" if character == '"' else state
        elif character == '"' and state == "closed":
            state = "quoted"  # a doubled quote
        elif character in (separator, "\n"):
            state = "begin"
        elif state == "closed" and character != "\r":
            return opened
        elif state == "begin":
            opened = line if character == '"' else opened
            state = "quoted" if character == '"' else "plain"
        index += 1
    return opened


def _require_header(file: DataFile, line: int, columns: Sequence[str], separator: str) -> None:
    """Raise DataError if a header names a column twice, or seems to have another separator."""
    if any("\r" in name for name in columns):
        raise DataError(
            f"{file.place(line)}: the lines end with carriage returns only; save the file with line ends LF or CRLF"
        )
    if len(set(columns)) != len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{file.place(line)}: the header names {twice!r} twice; give every column a different name")
    if len(columns) > 1 or file.options.separator is not None:
        return
    for other, name in _SEPARATORS.items():
        if other != separator and other in columns[0]:
            raise DataError(
                f"{file.place(line)}: the header {columns[0]!r} is one column, and holds {name}; if that is "
                f"the separator, give `separator: {_quoted(other)}` next to the path (on a command line: "
                f"--written 'separator={_quoted(other).strip(chr(34))}')"
            )


def _quoted(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f'"{separator}"'


def _wrong_width(file: DataFile, lines: tuple[int, int], cells: Sequence[str], expected: int, quoting: Quoting) -> str:
    (start, end), width = lines, len(cells)
    where = f" (the row continues to line {end})" if end > start else ""
    if expected == 1:
        mend = "if the first line is a title or a comment, remove it: the first line names the columns"
    elif width > expected and not any(cells[expected:]):
        mend = "remove the separator at the end of the line, or put quotes around a cell that holds it"
    elif quoting == "none":
        mend = "quotes are ordinary characters here; if they enclose cells, give `quoting: standard`"
    else:
        mend = "put quotes around a cell that holds the separator"
    return f"{file.place(start)}: found {width} columns{where}, and the header has {expected}; {mend}"
