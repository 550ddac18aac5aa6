"""Input files: which ones there are, what is known of them before the first row is answered, and their rows."""

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

# Rows of each file that are looked at before the first one is answered.
_HEAD = 100
_LISTED = 20


@dataclass(frozen=True)
class Input:
    """A file that is to be answered.

    Attributes:
        path: as it was given.
        stem: what the names of its answers begin with; no other file has the same.
        size: its bytes.
        changed: when it was written last, in nanoseconds.
        digest: sha256 of its content.
        rows: how many there are, where the file says so.
    """

    path: str
    stem: str
    size: int
    changed: int
    digest: str
    rows: int | None = None

    @classmethod
    def of(cls, path: str, stem: str) -> Input:
        """Look at a file. Raises DataError where it is none, or a parquet file that cannot be read."""
        rows = None if Path(path).suffix.lower() != ".parquet" else _parquet_rows(path)
        status = Path(path).stat()  # before it is read: a change from here on is seen
        return cls(path, stem, status.st_size, status.st_mtime_ns, file_digest(Path(path)), rows)


def find_inputs(names: Sequence[str], out: Path) -> list[Input]:
    """Return the files that paths, folders and patterns name, in this order.

    Raises DataError naming all files that cannot be used, ConfigError where the answers would fall among the texts.
    """
    paths: list[str] = []
    for name in names:
        if name == STDIN:
            raise ConfigError("file: found -, the standard input, among several workers; save it as a file first")
        paths.extend(files_of(name))
    _require_apart(paths, out)
    found: list[Input] = []
    wrong: list[str] = []
    for path, stem in zip(paths, _stems(paths), strict=True):
        try:
            require_file(Path(path))
            found.append(Input.of(path, stem))
        except DataError as error:
            wrong.append(str(error))
    _raise_all(wrong)
    return found


def _require_apart(paths: Sequence[str], out: Path) -> None:
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            raise ConfigError(f"file: {path} is named twice, and its rows would be answered twice; name it once")
        if place.is_relative_to(out.resolve()):
            raise ConfigError(f"out: {path}, which is to be answered, lies in {out}; name another folder")
        seen.add(place)


def _stems(paths: Sequence[str]) -> list[str]:
    """Return the files' names without what says their format; where two are alike, the second gets a number."""
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
        raise DataError(f"{path}: not a parquet file ({error}); write it anew, or leave it out") from None


class FileRows:
    """The rows of one file, those that cannot be read among them."""

    def __init__(self, path: str, written: Mapping[str, str]) -> None:
        self._refused: list[tuple[int, UnreadableRow]] = []
        self.source = PredictionSource.of(path, written, self._take)

    def _take(self, line: int, reason: str) -> None:
        self._refused.append((line, UnreadableRow(self._bare(line, reason))))

    def _bare(self, line: int, reason: str) -> str:
        return reason.removeprefix(f"{self.source.place(line)}: ").removeprefix(f"{self.source.path}: ")

    def rows(self) -> Generator[tuple[int, Row | UnreadableRow]]:
        """Yield what the file holds with its line; where it breaks off, the reason is the last."""
        number = 0
        try:
            for number, row in self.source.rows():
                yield from self._refusals()
                yield number, row
            yield from self._refusals()
        except DataError as error:
            yield from self._refusals()
            reason = f"{self._bare(number + 1, str(error))}; no row from here on was read"
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
    """Look at the first rows of every file, and return an example of each column that the answers keep.

    Raises DataError, naming all files that cannot be read from their beginning on, or have no column with a text.
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
            raise DataError(f"{file.path}: the file is read as texts, one a line; it has no columns")
        return {}
    _require_columns(file, rows, columns, tasks)
    examples: dict[str, Any] = {}
    for row in rows:
        try:
            kept = columns.read(row, tasks.values())[1]
        except DataError:  # told when its turn comes
            continue
        for name, value in kept.items():
            examples[name] = value if examples.get(name) is None else examples[name]
    return examples


def _require_columns(
    file: Input, rows: Sequence[Mapping[str, Any]], columns: Columns, tasks: Mapping[str, Task]
) -> None:
    """Raise DataError where no row has a column that is needed."""
    cells: dict[str, Any] = {}
    for row in rows:
        cells.update(cells_of(row))
    for name in columns.texts:
        if name not in cells:
            raise DataError(f"{file.path}: no column {name!r}, which holds the text ({nearest(name, cells)})")
    for name in columns.keep:
        if name not in cells:
            raise DataError(f"{file.path}: no column {name!r}, which is to be kept ({nearest(name, cells)})")
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
