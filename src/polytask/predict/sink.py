"""How answers are written: one JSON object a line, or a table as csv or parquet; whole, or as far as they came."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, get_args

import numpy as np

from polytask.errors import ConfigError, DataError, MissingExtra, OutputError, missing_extra, nearest
from polytask.files import to_json
from polytask.predict.spans import keep_in
from polytask.tasks import Task
from polytask.terms import OWN_TOKEN

Form: TypeAlias = Literal["jsonl", "csv", "parquet"]
_BY_NAME: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# Names of tables that nobody would look for JSON in.
_NOT_WRITTEN = frozenset({".tsv", ".xls", ".xlsx", ".ods", ".feather", ".arrow"})
# What the system says of a file that it writes no further.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Rows, and characters, that parquet is written by.
_BATCH = 1024
_BATCH_CHARACTERS = 16_000_000


def form_of(out: Path | None, to: str | None) -> Form:
    """Return how answers are written: as told, or by the name of their file. Raises ConfigError where these differ."""
    if to is not None and to not in get_args(Form):
        raise ConfigError(f"to: found {to!r}; {nearest(to, get_args(Form))}")
    name = Path() if out is None else out.with_suffix("") if out.suffix.lower() == ".gz" else out
    suffix = name.suffix.lower()
    if suffix in _NOT_WRITTEN:
        raise ConfigError(f"out: found {out}; {suffix[1:]} is not written ({nearest(suffix, _BY_NAME)})")
    named = _BY_NAME.get(suffix)
    form: Form = named or "jsonl" if to is None else to  # pyright: ignore[reportAssignmentType]
    if named is not None and named != form:
        raise ConfigError(f"out: {out} is named as {named}, and {form} is asked for; name it .{form}")
    if form == "parquet" and (out is None or out.suffix.lower() == ".gz"):
        raise ConfigError("to: parquet is written into a file of its own compression; give --out NAME.parquet")
    return form


class Writer(ABC):
    """Writes answers one after another.

    Args:
        stream: of text; of bytes for parquet.
        columns: examples of the values of an answer, by the column of a table.
    """

    def __init__(self, stream: IO[Any], columns: Mapping[str, Any]) -> None:
        self.stream = stream
        self.columns = dict(columns)

    @classmethod  # noqa: B027 - most need none
    def require_packages(cls) -> None:
        """Raise MissingExtra where a package is not installed."""

    def begin(self, kept: Mapping[str, Any]) -> None:  # noqa: B027 - lines need no beginning
        """Say what answers keep of their rows, with an example of each; a table takes the first answer's otherwise."""

    @abstractmethod
    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        """Write an answer with what it keeps of its row."""

    def close(self) -> None:  # noqa: B027 - most have nothing to add
        """Write what is still to be written."""


class JsonLinesWriter(Writer):
    """One JSON object a line."""

    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        self.stream.write(to_json(keep_in(answer, kept), "answer") + "\n")


class TableWriter(Writer):
    """A table whose columns are those of the first row that is kept and those of the tasks' answers."""

    def __init__(self, stream: IO[Any], columns: Mapping[str, Any]) -> None:
        super().__init__(stream, columns)
        self.kept: dict[str, Any] | None = None

    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        if self.kept is None:
            self.begin(kept)
        cells = {**kept, **flat(answer)}
        for name in cells:
            if name not in self.columns:
                raise DataError(f"{name!r} is no column of the first row, and a table has the same in all; write jsonl")
        self.add([cells.get(name) for name in self.columns])

    def begin(self, kept: Mapping[str, Any]) -> None:
        self.kept = dict(kept)
        self.columns = {**kept, **self.columns}
        self.head()

    def close(self) -> None:
        if self.kept is None:
            self.begin({})

    @abstractmethod
    def head(self) -> None:
        """Write the names of the columns."""

    @abstractmethod
    def add(self, cells: Sequence[Any]) -> None:
        """Write a row."""


class CsvWriter(TableWriter):
    """Comma-separated (RFC 4180): lists and objects as JSON."""

    def head(self) -> None:
        self.add(list(self.columns))

    def add(self, cells: Sequence[Any]) -> None:
        line = io.StringIO()
        # With this ending both of its characters are quoted inside of a cell, whatever the version of Python.
        csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in cells])
        self.stream.write(line.getvalue().removesuffix("\r\n") + "\n")


class ParquetWriter(TableWriter):
    """Parquet with the types of the examples and of the first row that is kept."""

    @classmethod
    def require_packages(cls) -> None:
        try:
            import pyarrow.parquet  # noqa: F401 # pyright: ignore[reportUnusedImport]
        except ModuleNotFoundError as error:
            if missing_extra(error) is None:
                raise
            raise MissingExtra(str(error.name), "train", "to write parquet") from None

    def head(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Nested values that are kept may be of another shape in every row: they are written as JSON.
        nested = {name for name, value in (self.kept or {}).items() if isinstance(value, list | dict)}
        types = [(name, pa.string() if name in nested else arrow_type(self.columns[name])) for name in self.columns]
        self._schema = pa.schema(types)
        self._writer = pq.ParquetWriter(self.stream, self._schema)
        self._rows: list[dict[str, Any]] = []
        self._characters = 0

    def add(self, cells: Sequence[Any]) -> None:
        row = dict(zip(self.columns, cells, strict=True))
        for name in self.kept or ():
            row[name] = _of_type(name, row[name], self.columns[name])
        self._rows.append(row)
        self._characters += sum(len(value) for value in cells if isinstance(value, str))
        if len(self._rows) == _BATCH or self._characters >= _BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        rows, self._rows, self._characters = self._rows, [], 0
        self._writer.write_table(pa.Table.from_pylist(rows, self._schema))

    def close(self) -> None:
        super().close()
        self._flush()
        self._writer.close()


WRITERS: dict[Form, type[Writer]] = {"jsonl": JsonLinesWriter, "csv": CsvWriter, "parquet": ParquetWriter}


@contextmanager
def writing(out: Path | None, form: Form, columns: Mapping[str, Any], say: Callable[[str], None]) -> Generator[Writer]:
    """Give what writes into a file, which takes its name when it is whole; before that it is OUT.partial."""
    if out is None:
        writer = WRITERS[form](sys.stdout, columns)
        yield writer
        writer.close()
        sys.stdout.flush()
        return
    WRITERS[form].require_packages()
    partial = out.with_name(f"{out.name}.partial")
    try:
        stream = _open(partial, form, packed=out.suffix.lower() == ".gz")
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); name a file in a folder that is there"
        ) from None
    try:
        with stream:
            writer = WRITERS[form](stream, columns)
            try:
                yield writer
            except BaseException:
                with suppress(OSError, ValueError):  # a full disk, which is being told already, also by pyarrow
                    writer.close()
                say(f"the answers so far are in {partial}")
                raise
            writer.close()
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        raise OutputError(
            f"{partial}: cannot be written any further ({error.strerror}); free space, or name another place, and give "
            "the command again"
        ) from None
    partial.replace(out)


def _open(path: Path, form: Form, *, packed: bool) -> IO[Any]:
    if form == "parquet":
        return path.open("wb")
    if packed:
        return gzip.open(path, "wt", encoding="utf-8", newline="\n")
    return path.open("w", encoding="utf-8", newline="\n")


def flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer's values under the names of a table's columns: the path of each in the JSON object.

    >>> flat({"text": "a", "predictions": {"tone": {"label": "bad"}}})
    {'text': 'a', 'predictions.tone.label': 'bad', 'truncated': False, 'empty': False}
    """
    text = answer["text"]
    texts = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
    own = {name: value for name, value in answer.items() if name not in ("text", "predictions")}
    return {**texts, **_leaves("predictions", answer["predictions"]), "truncated": False, "empty": False, **own}


def _leaves(path: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, item in value.items() for name, leaf in _leaves(f"{path}.{key}", item).items()}


def columns_of(tasks: Mapping[str, Task], *, windows: bool) -> dict[str, Any]:
    """Return the columns of a table of answers with an example of what stands in each.

    Args:
        windows: whether long texts are read in windows.
    """
    pair = any(task.options.inputs.second is not None for task in tasks.values())
    answers = {name: example_answer(task) for name, task in tasks.items()}
    example = {"text": ("", "") if pair else "", "predictions": answers}
    return flat({**example, "windows": 1} if windows else example)


def example_answer(task: Task) -> Any:  # noqa: ANN401
    """Return what a task answers for some output: one that leaves no list empty, where there is one."""
    if task.example is not None:
        return task.example
    example: Any = None
    for at in range(task.answer_size):
        outputs = np.full(task.answer_size, -30, np.float32)
        outputs[at] = 30
        example = task.format_prediction(outputs[None] if task.level == "word" else outputs, "a", [(0, 1)], [OWN_TOKEN])
        if [] not in _leaves("", example).values():
            break
    return example


def _cell(value: Any) -> Any:  # noqa: ANN401
    """Return a value as a cell of csv."""
    if isinstance(value, bool | list | dict):
        return to_json(value, "answer")
    return value


def arrow_type(example: Any) -> Any:  # noqa: ANN401
    """Return the Arrow type of a column by an example of what stands in it."""
    import pyarrow as pa

    if isinstance(example, list) and example:
        return pa.list_(arrow_type(example[0]))
    if isinstance(example, dict) and example:
        return pa.struct([(name, arrow_type(item)) for name, item in example.items()])
    if isinstance(example, list):
        return pa.list_(pa.string())
    kinds: dict[Any, Any] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    return kinds.get(type(example), pa.string())


def _of_type(name: str, value: Any, first: Any) -> Any:  # noqa: ANN401
    """Return a kept value as the column's type has it. Raises DataError where that is another one."""
    if value is None or (isinstance(value, str) and isinstance(first, str)):
        return value
    if first is None or isinstance(first, str | list | dict):
        return value if isinstance(value, str) else to_json(value, name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not type(first) and not (whole and isinstance(first, float)):
        raise DataError(f"{name!r} is {value!r}, and {first!r} in the first row; write jsonl or csv")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise DataError(f"{name!r} is {value}, which a column of whole numbers cannot hold; write jsonl or csv")
    return value
