"""Readers of files: each yields (line number, values of the row). A new format is one function and one table row."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from polytask.data.lines import MOST_LINE_BYTES, read_lines
from polytask.errors import DataError, nearest
from polytask.options import Format

Numbered: TypeAlias = Iterator[tuple[int, dict[str, Any]]]


def raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines, cut at newlines only (a text may hold other line separators), with the ending."""
    with path.open("rb") as file:
        for number, raw in enumerate(read_lines(file, str(path)), start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8; save the file as UTF-8"
                ) from None
            yield number, text


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines without the ending."""
    for number, text in raw_lines(path):
        yield number, text.removesuffix("\n").removesuffix("\r")


def read_jsonl(path: Path) -> Numbered:
    """One JSON object a line; blank lines are passed over."""
    for number, line in lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not a JSON object ({error}); expected one object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: found {type(row).__name__}; expected one JSON object a line")
        yield number, row


def _read_table(path: Path, delimiter: str) -> Numbered:
    csv.field_size_limit(MOST_LINE_BYTES)  # a text may be longer than the module's default of 131,072 characters
    # With the endings, which may stand inside a quoted cell.
    rows = csv.reader((line for _, line in raw_lines(path)), delimiter=delimiter, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        if len(set(header)) != len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise DataError(f"{path}:1: the header names {twice!r} twice; give every column a name of its own")
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{rows.line_num}: found {len(row)} columns, and the header has {len(header)}; "
                    "put quotes around a cell that holds the separator"
                )
            yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: {error}; check the quotes on this line") from None


def read_csv(path: Path) -> Numbered:
    """Comma-separated with a header line; a cell may hold quotes and line breaks."""
    return _read_table(path, ",")


def read_tsv(path: Path) -> Numbered:
    """Tab-separated with a header line."""
    return _read_table(path, "\t")


def read_parquet(path: Path) -> Numbered:
    """Parquet, a batch of rows at a time; the number is the row's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=1024)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a parquet file ({error})") from None


def _sentences(path: Path) -> Iterator[list[tuple[int, str]]]:
    """Yield blocks of numbered lines between blank ones."""
    block: list[tuple[int, str]] = []
    for numbered in lines(path):
        if numbered[1].strip():
            block.append(numbered)
        elif block:
            yield block
            block = []
    if block:
        yield block


def read_conll(path: Path) -> Numbered:
    """CoNLL: a token a line with its columns, blank lines between sentences.

    A row has `tokens` (first column), `tags` (last column), and every column under its number, from "1".
    """
    width = 0
    for block in _sentences(path):
        rows: list[list[str]] = []
        for number, line in block:
            # At ASCII spaces only: a token may hold, or be, another kind of space.
            cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
            if not rows and cells[0] == "-DOCSTART-":
                continue
            width = width or len(cells)
            if len(cells) != width or width < 2:
                raise DataError(
                    f"{path}:{number}: found {len(cells)} columns, expected {max(width, 2)}: "
                    "a token and its tags on each line, a blank line between sentences"
                )
            rows.append(cells)
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            numbered = {str(index): column for index, column in enumerate(columns, start=1)}
            yield block[0][0], {"tokens": columns[0], "tags": columns[-1], **numbered}


_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def read_conllu(path: Path) -> Numbered:
    """CoNLL-U: the fields by name (`form`, `upos`, ...), `tokens` for `form`, and `text` from the comment.

    Lines of multi-word tokens (1-2) and empty nodes (1.1) are not words and are passed over.
    """
    for block in _sentences(path):
        row: dict[str, Any] = {}
        words: list[list[str]] = []
        for number, line in block:
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                if key.strip() == "text":
                    row["text"] = value.strip()
                continue
            cells = line.split("\t")
            if len(cells) != len(_CONLLU):
                raise DataError(f"{path}:{number}: found {len(cells)} fields, CoNLL-U has 10, separated by tabs")
            if cells[0].isdigit():
                words.append(cells)
        if words:
            fields = {name: list(column) for name, column in zip(_CONLLU, zip(*words, strict=True), strict=True)}
            yield block[0][0], {**row, **fields, "tokens": fields["form"]}


READERS: dict[Format, Callable[[Path], Numbered]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "conll": read_conll,
    "conllu": read_conllu,
}
_EXTENSIONS: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".conll": "conll", ".iob": "conll", ".iob2": "conll", ".bio": "conll", ".conllu": "conllu",
}  # fmt: skip


def format_of(path: Path) -> Format:
    """Tell a file's format by its extension. Raises DataError on an unknown one."""
    found = _EXTENSIONS.get(path.suffix.lower())
    if found is None:
        raise DataError(
            f"{path}: the extension {path.suffix!r} names no format ({nearest(path.suffix, _EXTENSIONS)}); "
            "rename the file, or give `format` beside the path"
        )
    return found


def require_file(path: Path) -> None:
    """Raise DataError, with the nearest names beside it, when a file is missing."""
    if not path.is_file():
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        closest = difflib.get_close_matches(path.name, beside, n=20, cutoff=0)
        hint = nearest(path.name, closest) if path.parent.is_dir() else f"the folder {path.parent} does not exist"
        raise DataError(f"{path}: no such file ({hint})")


def read_file(path: Path, chosen: Format | None = None) -> Numbered:
    """Read one file. Raises DataError when it is missing, empty or broken."""
    require_file(path)
    empty = True
    for numbered in READERS[chosen or format_of(path)](path):
        empty = False
        yield numbered
    if empty:
        raise DataError(f"{path}: the file holds no rows")
