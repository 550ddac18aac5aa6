"""Input files: finds them, checks them before the first row is predicted, and reads their rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from polytask.batch.answering import Row, UnreadableRow
from polytask.data.paths import EXTENSIONS, files_of, require_file
from polytask.errors import ConfigError, DataError, MissingExtra, missing_extra, nearest
from polytask.files import file_digest
from polytask.predict.columns import Columns
from polytask.predict.source import STDIN, PredictionSource
from polytask.tabular import cells_of
from polytask.tasks import Task

# Number of rows of each file that are checked before the first row is predicted.
_HEAD = 100
_LISTED = 20


@dataclass(frozen=True)
class Input:
    """An input file.

    Attributes:
        path: path as given.
        stem: unique prefix of the names of its output files.
        size: size in bytes.
        changed: modification time in nanoseconds.
        digest: SHA-256 of its content.
        rows: number of rows, if the file contains it.
    """

    path: str
    stem: str
    size: int
    changed: int
    digest: str
    rows: int | None = None

    @classmethod
    def of(cls, path: str, stem: str) -> Input:
        """Describe a file. Raises DataError if it is missing, or is a Parquet file that cannot be read."""
        rows = None if Path(path).suffix.lower() != ".parquet" else _parquet_rows(path)
        status = Path(path).stat()  # before reading, so that later changes are detected
        return cls(path, stem, status.st_size, status.st_mtime_ns, file_digest(Path(path)), rows)


def find_inputs(names: Sequence[str], out: Path) -> list[Input]:
    """Return the files given by paths, folders and patterns, in this order.

    Raises DataError naming all unusable files, ConfigError if an input file is in the output folder.
    """
    paths: list[str] = []
    for name in names:
        if name == STDIN:
            raise ConfigError(
                "file: found -, the standard input, with several files or workers; save it as a file first"
            )
        paths.extend(files_of(name))
    _require_apart(paths, out)
    inputs: list[Input] = []
    wrong: list[str] = []
    for path, stem in zip(paths, _stems(paths), strict=True):
        try:
            require_file(Path(path))
            inputs.append(Input.of(path, stem))
        except DataError as error:
            wrong.append(str(error))
    _raise_all(wrong)
    return inputs


def _require_apart(paths: Sequence[str], out: Path) -> None:
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            raise ConfigError(f"file: {path} is named twice; name it once")
        if place.is_relative_to(out.resolve()):
            raise ConfigError(f"out: the input file {path} is in {out}; name another folder")
        seen.add(place)


def _stems(paths: Sequence[str]) -> list[str]:
    """Return the names of the files without extension, made unique by numbers."""
    used: set[str] = set()
    stems: list[str] = []
    for path in paths:
        name = Path(path).name
        name = name[:-3] if name.lower().endswith(".gz") else name
        first = stem = name.removesuffix(Path(name).suffix) if Path(name).suffix.lower() in EXTENSIONS else name
        number = 1
        while stem.casefold() in used:
            number += 1
            stem = f"{first}-{number}"
        used.add(stem.casefold())
        stems.append(stem)
    return stems


def _raise_all(wrong: Sequence[str]) -> None:
    if wrong:
        more = [f"and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
        raise DataError("\n".join([*wrong[:_LISTED], *more]))


def _parquet_rows(path: str) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        if missing_extra(error) is None:
            raise
        raise MissingExtra(str(error.name), "train", f"{path}, a file of parquet,") from None
    try:
        with pq.ParquetFile(path) as parquet:
            return parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error}); write it again, or leave it out") from None


class FileRows:
    """The rows of one file, including unreadable ones."""

    def __init__(self, path: str, written: Mapping[str, str]) -> None:
        self._refused: list[tuple[int, UnreadableRow]] = []
        self.source = PredictionSource.of(path, written, self._take)

    def _take(self, line: int, reason: str) -> None:
        self._refused.append((line, UnreadableRow(self._bare(line, reason))))

    def _bare(self, line: int, reason: str) -> str:
        return reason.removeprefix(f"{self.source.place(line)}: ").removeprefix(f"{self.source.path}: ")

    def rows(self) -> Generator[tuple[int, Row | UnreadableRow]]:
        """Yield the rows with their line numbers; if reading stops early, the last one is the reason."""
        number = 0
        try:
            for number, row in self.source.rows():
                yield from self._refusals()
                yield number, row
            yield from self._refusals()
        except DataError as error:
            yield from self._refusals()
            reason = f"{self._bare(number + 1, str(error))}; the rows from here on were not read"
            yield number + 1, UnreadableRow(reason, rest=True)
        finally:
            self.source.close()

    def _refusals(self) -> Iterator[tuple[int, UnreadableRow]]:
        refused = self._refused[:]
        self._refused.clear()
        return iter(refused)


def preview(
    inputs: Iterable[Input], written: Mapping[str, str], columns: Columns, tasks: Mapping[str, Task]
) -> dict[str, Any]:
    """Check the first rows of every file, and return an example of each column to keep.

    Raises DataError naming all files whose beginning cannot be read, or that have no text column.
    """
    columns.require_possible(tasks.values())
    examples: dict[str, Any] = {}
    wrong: list[str] = []
    for file in inputs:
        try:
            for name, value in _preview_of(file, written, columns, tasks).items():
                if examples.get(name) is None:
                    examples[name] = value
        except DataError as error:
            wrong.append(str(error))
    _raise_all(wrong)
    return examples


def _preview_of(file: Input, written: Mapping[str, str], columns: Columns, tasks: Mapping[str, Task]) -> dict[str, Any]:
    reading = FileRows(file.path, written)
    with closing(reading.rows()) as numbered:
        head = [row for _, row in islice(numbered, _HEAD)]
    if head and isinstance(head[0], UnreadableRow) and head[0].rest:
        raise DataError(f"{file.path}: {head[0].reason}")
    rows = [row for row in head if not isinstance(row, str | UnreadableRow)]
    if not rows:
        if columns != Columns() and any(isinstance(row, str) for row in head):
            raise DataError(f"{file.path}: the file is read as texts, one per line; it has no columns")
        return {}
    _require_columns(file, rows, columns, tasks)
    examples: dict[str, Any] = {}
    for row in rows:
        try:
            kept = columns.read(row, tasks.values())[1]
        except DataError:  # reported when its turn comes
            continue
        for name, value in kept.items():
            examples[name] = value if examples.get(name) is None else examples[name]
    return examples


def _require_columns(
    file: Input, rows: Sequence[Mapping[str, Any]], columns: Columns, tasks: Mapping[str, Task]
) -> None:
    """Raise DataError if no row has a required column."""
    cells: dict[str, Any] = {}
    for row in rows:
        cells.update(cells_of(row))
    for name in columns.texts:
        if name not in cells:
            raise DataError(f"{file.path}: no column {name!r}, which holds the text ({nearest(name, cells)})")
    for name in columns.keep:
        if name not in cells:
            raise DataError(f"{file.path}: no column {name!r} to keep ({nearest(name, cells)})")
    if not columns.texts:
        wanted = _columns_read(tasks)
        if not wanted & cells.keys():
            raise DataError(
                f"{file.path}: no column holds a text for any of the tasks; accepted: {', '.join(sorted(wanted))}; "
                f"found: {', '.join(list(cells)[:_LISTED])}; --text COLUMN names the column that holds the text"
            )


def _columns_read(tasks: Mapping[str, Task]) -> set[str]:
    wanted: set[str] = set()
    for task in tasks.values():
        inputs = task.options.inputs
        wanted |= {inputs.first, "text"} if inputs.second is None else {inputs.first}
        wanted |= {task.options.tokens} if task.level == "word" else set()
    return wanted
