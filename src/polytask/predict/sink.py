"""Writers of predictions: one JSON object per line, or a csv or Parquet table; complete, or up to an error."""

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
from polytask.regular import is_folder
from polytask.tasks import Task
from polytask.terms import OWN_TOKEN

Form: TypeAlias = Literal["jsonl", "csv", "parquet"]
_BY_NAME: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# Extensions of tables, under which JSON would be surprising.
_NOT_WRITTEN = frozenset({".tsv", ".xls", ".xlsx", ".ods", ".feather", ".arrow"})
# Error numbers of a file that cannot be written any further.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Numbers of rows and of characters per batch of Parquet.
_BATCH = 1024
_BATCH_CHARACTERS = 16_000_000


def form_of(out: Path | None, to: str | None) -> Form:
    """Return the output format, as given or from the name of the file. Raises ConfigError if these differ."""
    if to is not None and to not in get_args(Form):
        raise ConfigError(f"to: found {to!r}; {nearest(to, get_args(Form))}")
    name = Path() if out is None else out.with_suffix("") if out.suffix.lower() == ".gz" else out
    suffix = name.suffix.lower()
    if suffix in _NOT_WRITTEN:
        raise ConfigError(f"out: found {out}; {suffix[1:]} is not written ({nearest(suffix, _BY_NAME)})")
    named_form = _BY_NAME.get(suffix)
    form: Form = named_form or "jsonl" if to is None else to  # pyright: ignore[reportAssignmentType]
    if named_form is not None and named_form != form:
        raise ConfigError(f"out: {out} has the extension of {named_form}, but {form} was requested; name it .{form}")
    if form == "parquet" and (out is None or out.suffix.lower() == ".gz"):
        raise ConfigError("to: parquet has its own compression; give --out NAME.parquet")
    return form


class Writer(ABC):
    """Writes predictions one after another.

    Args:
        stream: text stream; binary for Parquet.
        columns: example of a prediction's value for each column of a table.
    """

    def __init__(self, stream: IO[Any], columns: Mapping[str, Any]) -> None:
        self.stream = stream
        self.columns = dict(columns)

    @classmethod  # noqa: B027 - most need none
    def require_packages(cls) -> None:
        """Raise MissingExtra if a package is not installed."""

    def begin(self, kept: Mapping[str, Any]) -> None:  # noqa: B027 - lines need no header
        """Set the values that predictions keep, with an example of each; by default those of the first prediction."""

    @abstractmethod
    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        """Write a prediction with the values kept from its row."""

    def close(self) -> None:  # noqa: B027 - most have nothing to add
        """Write the remaining predictions."""


class JsonLinesWriter(Writer):
    """Writes one JSON object per line."""

    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        self.stream.write(to_json(keep_in(answer, kept), "answer") + "\n")


class TableWriter(Writer):
    """Writes a table with the kept columns of the first row and the columns of the predictions."""

    def __init__(self, stream: IO[Any], columns: Mapping[str, Any]) -> None:
        super().__init__(stream, columns)
        self.kept: dict[str, Any] | None = None

    def write(self, kept: Mapping[str, Any], answer: Any) -> None:  # noqa: ANN401
        if self.kept is None:
            self.begin(kept)
        cells = {**kept, **flat(answer)}
        for name in cells:
            if name not in self.columns:
                raise DataError(
                    f"{name!r} is not a column of the first row, and all rows of a table need the same; write jsonl"
                )
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
        """Write the header."""

    @abstractmethod
    def add(self, cells: Sequence[Any]) -> None:
        """Write a row."""


class CsvWriter(TableWriter):
    """Comma-separated (RFC 4180): lists and objects as JSON."""

    def head(self) -> None:
        self.add(list(self.columns))

    def add(self, cells: Sequence[Any]) -> None:
        line = io.StringIO()
        # With this line ending, both characters are quoted inside cells in every version of Python.
        csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in cells])
        self.stream.write(line.getvalue().removesuffix("\r\n") + "\n")


class ParquetWriter(TableWriter):
    """Writes Parquet with the types of the examples and of the first row's kept values."""

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

        # Nested kept values may differ in shape between rows, and are written as JSON.
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


def partial_path(out: Path) -> Path:
    """Return the path at which predictions are written until they are complete."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def writing(out: Path | None, form: Form, columns: Mapping[str, Any], say: Callable[[str], None]) -> Generator[Writer]:
    """Yield a writer into OUT.partial, which is renamed to OUT when it is complete."""
    if out is None:
        writer = WRITERS[form](sys.stdout, columns)
        yield writer
        writer.close()
        sys.stdout.flush()
        return
    if is_folder(out):
        raise OutputError(
            f"{out}: is a folder, and the predictions for one file are written into a file; name one, such as "
            f"{out / f'answers.{form}'}"
        )
    WRITERS[form].require_packages()
    partial = partial_path(out)
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
                with suppress(OSError, ValueError):  # a full disk, which is reported already, also by pyarrow
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
    """Return the values of a prediction by column, named by their path in the JSON object.

    >>> flat({"text": "a", "predictions": {"tone": {"label": "bad"}}})
    {'text': 'a', 'predictions.tone.label': 'bad', 'truncated': False, 'empty': False}
    """
    text = answer["text"]
    texts = {"text": text} if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
    further = {name: value for name, value in answer.items() if name not in ("text", "predictions")}
    return {**texts, **_leaves("predictions", answer["predictions"]), "truncated": False, "empty": False, **further}


def _leaves(path: str, value: Any) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, item in value.items() for name, leaf in _leaves(f"{path}.{key}", item).items()}


def columns_of(tasks: Mapping[str, Task], *, windows: bool) -> dict[str, Any]:
    """Return the columns of a table of predictions with an example value for each.

    Args:
        tasks: tasks by name.
        windows: whether long texts are read in windows.
    """
    pair = any(task.options.inputs.second is not None for task in tasks.values())
    answers = {name: example_answer(task) for name, task in tasks.items()}
    example = {"text": ("", "") if pair else "", "predictions": answers}
    return flat({**example, "windows": 1} if windows else example)


def example_answer(task: Task) -> Any:  # noqa: ANN401
    """Return an example prediction of a task, without empty lists if possible."""
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
    """Return the Arrow type of a column from an example value."""
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
    """Return a kept value in the type of its column. Raises DataError if it has another type."""
    if value is None or (isinstance(value, str) and isinstance(first, str)):
        return value
    if first is None or isinstance(first, str | list | dict):
        return value if isinstance(value, str) else to_json(value, name)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not type(first) and not (is_integer and isinstance(first, float)):
        raise DataError(f"{name!r} is {value!r}, and {first!r} in the first row; write jsonl or csv")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise DataError(f"{name!r} is {value}, which a column of whole numbers cannot hold; write jsonl or csv")
    return value
