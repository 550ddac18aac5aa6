"""Readers of files: each yields (line number, values of the row). A new format is one function and one table row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from polytask.classes import ClassNames
from polytask.data.cluener import with_spans
from polytask.data.conll import read_conll, read_conllu
from polytask.data.delimited import read_csv, read_tsv
from polytask.data.files import DataFile, ReadingNotes
from polytask.data.label_studio import row_of
from polytask.data.paths import require_file
from polytask.errors import DataError, nearest
from polytask.files import unique_keys
from polytask.options import FileOptions, Format
from polytask.tasks.cells import brief
from polytask.tasks.labels import cell_text

Numbered: TypeAlias = Iterator[tuple[int, dict[str, Any]]]


def read_jsonl(file: DataFile) -> Numbered:
    """Read one JSON object per line; blank lines are skipped."""
    return read_objects(file, file.lines())


def read_objects(file: DataFile, lines: Iterable[tuple[int, str]]) -> Numbered:
    """Read rows from lines of jsonl. Raises DataError for an invalid line, unless the file collects refused rows."""
    for number, line in lines:
        if line.strip():
            try:
                row = read_object(file, number, line)
            except DataError as error:
                file.refuse(number, str(error))
            else:
                yield number, row


def read_object(file: DataFile, number: int, line: str) -> dict[str, Any]:
    """Read the row in a line of jsonl. Raises DataError if there is none."""
    return _json_row(file, number, _parse(file, number, line))


def read_json(file: DataFile) -> Numbered:
    """Read a list of JSON objects, also under a name such as `data` in one object, or one object after another.

    The number is the first line of each object.
    """
    text = "".join(line for _, line in file.raw_lines())
    for number, value in _values(file, text):
        if text.startswith("{") and _holds_columns(value):
            raise DataError(
                f"{file.path}: an object that holds whole columns ({brief(list(value))}), as pandas writes it by "
                'default; write a list of objects, one for each row (in pandas: `to_json(FILE, orient="records")`)'
            )
        if isinstance(value, list) and not _is_pair(value):
            raise DataError(f"{file.place(number)}: found a list in a list; expected one JSON object per row")
        if not isinstance(value, dict | list):
            raise DataError(
                f"{file.place(number)}: found {brief(value)}; expected one JSON object per row, such as "
                '{"text": "..."}; texts alone are read from a .txt file with one on each line'
            )
        yield number, _json_row(file, number, value)


def _values(file: DataFile, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the items of a JSON list, or JSON values that follow one another, with their line numbers."""
    start = _skip(text, 0)
    wrapped = _start_of_rows(text, start)
    position = start if wrapped is None else wrapped
    in_list = text.startswith("[", position)
    position = _skip(text, position + 1) if in_list else position
    number, counted = 1, 0
    while position < len(text) and not (in_list and text.startswith("]", position)):
        number, counted = number + text.count("\n", counted, position), position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file.place(number)}: not JSON ({error}); expected a list of objects") from None
        yield from _unwrapped(number, value)
        position = _skip(text, position)
        if in_list:
            position = _after_item(file, number, text, position)
    if in_list and wrapped is None and text[position:].strip() != "]":
        raise DataError(
            f"{file.path}: the list is not closed, or is followed by something else; the file may be truncated"
        )


def _holds_columns(value: Any) -> bool:  # noqa: ANN401
    """Whether an object holds columns of several rows: objects with the same numbers as keys, or lists with texts."""
    members: list[Any] = list(value.values()) if isinstance(value, dict) else []
    if len(members) < 2:
        return False
    if all(isinstance(member, dict) for member in members):
        return len(members[0]) > 1 and all(
            list(member) == list(members[0]) and all(key.isdecimal() for key in member) for member in members
        )
    if not all(isinstance(member, list) and len(member) == len(members[0]) > 1 for member in members):
        return False
    # Lists of words and their tags are one row.
    return any(all(isinstance(item, str) and " " in item.strip() for item in member) for member in members)


def _start_of_rows(text: str, start: int) -> int | None:
    """Return the position of the list of rows inside a single JSON object; None for any other text."""
    try:
        members = list(_members(text, start))
    except (ValueError, RecursionError):
        return None  # not such an object; the usual reading reports mistakes with their places
    names = {name for name, _, _ in members}
    lists = [(begin, value) for name, begin, value in members if name in _NAMES_OF_ROWS and isinstance(value, list)]
    if len(names) < len(members) or len(lists) != 1 or not names.isdisjoint(("text", "tokens")):
        return None
    begin, rows = lists[0]
    return begin if rows and all(isinstance(row, dict) for row in rows) else None


def _members(text: str, start: int) -> Iterator[tuple[str, int, Any]]:
    """Yield the name, position and value of each member of a text with a single object. Raises ValueError otherwise."""
    position = _expect(text, start, "{")
    while not text.startswith("}", position):
        name, position = _DECODER.raw_decode(text, position)
        begin = _expect(text, _skip(text, position), ":")
        value, position = _DECODER.raw_decode(text, begin)
        yield name, begin, value
        position = _skip(text, position)
        position = position if text.startswith("}", position) else _expect(text, position, ",")
    if text[position + 1 :].strip():
        raise ValueError("more than one object")


def _expect(text: str, position: int, character: str) -> int:
    """Return the position after an expected character and spaces. Raises ValueError if another character is there."""
    if not text.startswith(character, position):
        raise ValueError(f"expected {character}")
    return _skip(text, position + 1)


def _after_item(file: DataFile, number: int, text: str, position: int) -> int:
    """Return the position of the next item, or of the end of the list."""
    if text.startswith("]", position):
        return position
    if not text.startswith(",", position):
        next_text = repr(text[position : position + 1]) if position < len(text) else "the end of the file"
        raise DataError(f"{file.place(number)}: found {next_text} after the item that begins here; expected a comma")
    return _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unwrapped(number: int, value: Any) -> Iterator[tuple[int, Any]]:  # noqa: ANN401
    """Yield the rows in an object that holds all of them, as some annotation tools write it."""
    rows = value.get("annotations") if isinstance(value, dict) and "data" not in value else None
    if isinstance(rows, list) and rows and all(row is None or _is_pair(row) for row in rows):
        yield from ((number, row) for row in rows if row is not None)
    else:
        yield number, value


def _is_pair(value: Any) -> bool:  # noqa: ANN401
    """Whether a list is a text with its annotations, as in spaCy's training data."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict)


# Under which an object of a whole file may hold its rows.
_NAMES_OF_ROWS = ("data", "rows", "examples", "items", "records", "instances", "results")
_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def _parse(file: DataFile, number: int, line: str) -> Any:  # noqa: ANN401
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        hint = "; name a file with one JSON list .json, or give `format: json`" if line[0] == "[" else ""
        if line[0] == "{" and line.rstrip().endswith("},"):
            hint = "; remove the commas after the objects, or put the lines between [ and ] and name the file .json"
        raise DataError(
            f"{file.place(number)}: not a JSON object ({error}); expected one object per line{hint}"
        ) from None


def _json_row(file: DataFile, number: int, value: Any) -> dict[str, Any]:  # noqa: ANN401
    if _is_pair(value):
        value = {"text": value[0], **value[1]}
    if not isinstance(value, dict):
        hint = "; name a file with one JSON list .json, or give `format: json`" if number == 1 else ""
        raise DataError(f"{file.place(number)}: found {type(value).__name__}; expected one JSON object per line{hint}")
    try:
        return with_spans(row_of(value))
    except ValueError as error:
        raise DataError(f"{file.place(number)}: {error}") from None


def read_parquet(file: DataFile) -> Numbered:
    """Read Parquet in batches, with the class names that the file defines; the number is that of the row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file.path) as parquet:
            _require_distinct(file, parquet.schema_arrow.names)
            names = ClassNames.of_parquet(parquet.schema_arrow.metadata)
            for batch in parquet.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, names.named(row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.path}: not a parquet file ({error})") from None
    except ValueError as error:
        raise DataError(f"{file.place(number)}: {error}") from None


def _require_distinct(file: DataFile, columns: list[str]) -> None:
    """Raise DataError if two columns have the same name, as a row would only hold the last of them."""
    twice = next((name for name, times in Counter(columns).items() if times > 1), None)
    if twice is not None:
        raise DataError(f"{file.path}: two columns are named {twice!r}; give every column a different name")


READERS: dict[Format, Callable[[DataFile], Numbered]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "conll": read_conll,
    "conllu": read_conllu,
}
_TABLES: tuple[Format, ...] = ("csv", "tsv")


def read_file(path: Path, options: FileOptions | None = None, remarks: ReadingNotes | None = None) -> Numbered:
    """Read one file.

    Args:
        options: options about the file's format; by default the format is that of the extension.
        remarks: collects notes for the user on how the file was read.

    Raises DataError if the file is missing, empty or broken.
    """
    require_file(path)
    empty = True
    for numbered in rows_of(DataFile(path, options or FileOptions(), ReadingNotes() if remarks is None else remarks)):
        empty = False
        yield numbered
    if empty:
        raise DataError(f"{path}: the file holds no rows")


def rows_of(file: DataFile) -> Numbered:
    """Read an existing file, even one without rows. Raises DataError if it is broken."""
    _require_applicable(file)
    rows = READERS[file.format](file)
    sentence = file.options.sentence
    return rows if sentence is None else sentences(rows, sentence, str(file.path))


def _require_applicable(file: DataFile) -> None:
    """Raise DataError if an option does not apply to files of this format."""
    options = file.options
    if file.format not in _TABLES and (options.separator is not None or options.quoting is not None):
        raise DataError(f"{file.path}: `separator` and `quoting` are for csv and tsv, and this file is {file.format}")
    if file.format == "parquet" and (options.encoding is not None or file.path.suffix.lower() == ".gz"):
        problem = (
            "has no encoding to choose; leave out `encoding`" if options.encoding else "is compressed inside; unpack it"
        )
        raise DataError(f"{file.path}: a parquet file {problem}")


def sentences(rows: Numbered, column: str, name: str) -> Numbered:
    """Group rows of one token each into rows of one sentence each: lists of the cells of every column.

    Args:
        column: column that identifies sentences: a new value begins a sentence, an empty cell continues it.
        name: name of the rows in the error about a missing column.
    """
    begun, mark = 0, None
    columns: dict[str, list[Any]] = {}
    for number, row in rows:
        if column not in row:
            raise DataError(f"{name}:{number}: no column {column!r} ({nearest(column, row)}), which `sentence` names")
        sentence_text = cell_text(row[column])
        if columns and sentence_text not in ("", cell_text(mark)):
            yield begun, {**columns, column: mark}
            columns = {}
        begun, columns = (begun, columns) if columns else (number, {key: [] for key in row})
        mark = row[column] if sentence_text else mark
        for key, cell in row.items():
            columns.setdefault(key, []).append(cell)
    if columns:
        yield begun, {**columns, column: mark}
