"""Token ids: tokenises a table of rows once, in batches, into a second Arrow file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polytask.data.arrow import ArrowRows
from polytask.data.cache import cached, key_of
from polytask.data.columns import Matrices, Ragged, flat
from polytask.data.rows import DataTable
from polytask.data.tokens import Tokenization, TokenRow
from polytask.tasks import Task
from polytask.terms import Split

_BATCH = 1000


@dataclass(frozen=True)
class Source:
    """The encoded rows of a feed.

    Attributes:
        lengths: number of tokens of each row.
        carries: for each task, the numbers of the rows with its label, ascending.
        targets: for each task, a column of the loss's targets.
        row_weights: for each task with row weights, the weight of each row in the loss.
        teacher_logits: for each task with a teacher, the teacher's logits: one line per row, or one per word.
        companion_of: for each row that is a companion of the row before it, the index in `tasks` of the task that reads
            it; -1 for other rows. None if there are no companions.
        label_rows: for each task whose labels are texts, these texts.
    """

    name: str
    split: Split
    tasks: tuple[str, ...]
    raw: ArrowRows
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    ids: Ragged
    type_ids: Ragged | None
    word_tokens: Ragged
    targets: Mapping[str, Any]
    carries: Mapping[str, NDArray[np.int32]]
    row_weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict[str, NDArray[np.float32]])
    teacher_logits: Mapping[str, Matrices] = field(default_factory=dict[str, Matrices])
    companion_of: NDArray[np.int16] | None = None
    label_rows: Mapping[str, Sequence[TokenRow]] = field(default_factory=dict[str, "Sequence[TokenRow]"])

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def labelled(self) -> NDArray[np.int32]:
        """The numbers of the rows with a label of any task, ascending."""
        return np.unique(np.concatenate(list(self.carries.values())))

    @cached_property
    def drawn(self) -> Mapping[str, NDArray[np.int32]]:
        """For each task, the rows to draw: those with its label, without companions, which are added later."""
        if self.companion_of is None:
            return self.carries
        return {task: rows[self.companion_of[rows] < 0] for task, rows in self.carries.items()}

    def numbered(self, rows: Sequence[int]) -> list[int]:
        """Return row numbers that do not count companions, and so do not depend on the tasks that read the rows."""
        if self.companion_of is None:
            return list(rows)
        before = np.cumsum(self.companion_of >= 0)
        return [row - int(before[row]) for row in rows]

    def companions(self, row: int, tasks: Collection[str]) -> Iterator[tuple[int, str]]:
        """Yield the companions of a row that some tasks read, each with its task."""
        if self.companion_of is None:
            return
        for other in range(row + 1, len(self)):
            place = int(self.companion_of[other])
            if place < 0:
                return
            if self.tasks[place] in tasks:
                yield other, self.tasks[place]

    def same_companions(self, carried: Mapping[int, Sequence[str]]) -> dict[int, int]:
        """Map companions with the same tokens to the first of them.

        Args:
            carried: row numbers, ascending, with the tasks that read each row.
        """
        first: dict[Any, int] = {}
        duplicates: dict[int, int] = {}
        if self.companion_of is None:
            return duplicates
        for row in carried:
            if self.companion_of[row] >= 0:
                key = (*carried[row], np.asarray(self.ids[row]).tobytes())
                if first.setdefault(key, row) != row:
                    duplicates[row] = first[key]
        return duplicates

    def tokens(self, row: int) -> TokenRow:
        """Return a row's tokens."""
        type_ids = None if self.type_ids is None else self.type_ids[row]
        return TokenRow(self.ids[row], type_ids, self.word_tokens[row], bool(self.truncated[row]))


def encode_table(
    table: DataTable,
    tasks: Mapping[str, Task],
    tokens: Tokenization,
) -> Source:
    """Tokenise a table and encode its labels, or read both from the cache."""
    feed_tasks = {name: tasks[name] for name in table.feed.tasks}
    fitted = {name: task.to_json()["fitted"] for name, task in feed_tasks.items()}
    key = key_of(table.digest, tokens.fingerprint, tokens.max_tokens, fitted)

    def make(path: Path) -> None:
        schema = _schema(feed_tasks)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for start in range(0, len(table.rows), _BATCH):
                writer.write_batch(_encode(table.rows[start : start + _BATCH], feed_tasks, tokens, schema))

    data = ArrowRows.of(cached(f"{key}.tokens.arrow", make)).data
    assert len(data) == len(table.rows), "every row is encoded once"
    targets: dict[str, Any] = {}
    carries: dict[str, NDArray[np.int32]] = {}
    every_row = np.arange(len(data), dtype=np.int32)  # once, for all tasks that have a label everywhere
    for name, task in feed_tasks.items():
        column = data.column(f"target.{name}")
        has = ~column.is_null().to_numpy()
        carries[name] = every_row if has.all() else np.flatnonzero(has).astype(np.int32)
        targets[name] = Ragged(column) if isinstance(_target_type(task), pa.ListType) else flat(column)
    type_ids = data.column("type_ids")
    return Source(
        companion_of=_companions(table, tuple(feed_tasks)),
        label_rows={
            name: tokens.rows(task.label_texts, None, [None] * len(task.label_texts))
            for name, task in feed_tasks.items()
            if task.label_texts
        },
        name=table.feed.name,
        split=table.feed.split,
        tasks=tuple(feed_tasks),
        raw=table.rows,
        lengths=flat(data.column("length")).astype(np.int32, copy=False),
        truncated=data.column("truncated").to_numpy(),
        ids=Ragged(data.column("ids")),
        type_ids=None if type_ids.null_count else Ragged(type_ids),
        word_tokens=Ragged(data.column("word_tokens")),
        targets=targets,
        carries=carries,
        row_weights=_row_weights(table),
    )


def _companions(table: DataTable, tasks: Sequence[str]) -> NDArray[np.int16] | None:
    """Return for each row the index of the task whose companion it is, or -1; None if there are no companions."""
    column = table.rows.data.column("companion_of")
    if column.null_count == len(column):
        return None
    places = {task: place for place, task in enumerate(tasks)}
    return np.array([-1 if name is None else places[name] for name in column.to_pylist()], dtype=np.int16)


def _row_weights(table: DataTable) -> dict[str, NDArray[np.float32]]:
    """Return the rows' weights for each task that has them; a row without a label weighs 0."""
    columns = {name: f"weight.{name}" for name in table.feed.tasks}
    available = set(table.rows.data.column_names)
    return {
        name: np.nan_to_num(flat(table.rows.data.column(column)).astype(np.float32))
        for name, column in columns.items()
        if column in available
    }


def _target_type(task: Task) -> pa.DataType:
    each = pa.int32() if task.target_type.endswith(("int", "int>")) else pa.float32()
    return pa.list_(each) if task.target_type.startswith("list") else each


def _schema(tasks: Mapping[str, Task]) -> pa.Schema:
    numbers = pa.list_(pa.int32())
    fixed = [("ids", numbers), ("type_ids", numbers), ("word_tokens", numbers)]
    sizes = [("length", pa.int32()), ("truncated", pa.bool_())]
    return pa.schema([*fixed, *sizes, *((f"target.{name}", _target_type(task)) for name, task in tasks.items())])


def _encode(
    rows: Mapping[str, list[Any]],
    tasks: Mapping[str, Task],
    tokens: Tokenization,
    schema: pa.Schema,
) -> pa.RecordBatch:
    words = [
        None if starts is None else list(zip(starts, ends, strict=True))
        for starts, ends in zip(rows["starts"], rows["ends"], strict=True)
    ]
    encoded = tokens.rows(rows["text"], rows["pair"], words)
    data: dict[str, list[Any]] = {
        "ids": [row.ids for row in encoded],
        "type_ids": [row.type_ids for row in encoded],
        "word_tokens": [row.word_tokens for row in encoded],
        "length": [len(row.ids) for row in encoded],
        "truncated": [row.truncated for row in encoded],
    }
    for name, task in tasks.items():
        labels: list[Any] = rows[f"label.{name}"]
        if task.mask_rate is not None:  # without a token that the vocabulary knows, there is none to mask
            labels = [label if tokens.knows(row.ids) else None for label, row in zip(labels, encoded, strict=True)]
        data[f"target.{name}"] = [None if label is None else task.encode(label) for label in labels]
    return pa.RecordBatch.from_pydict(data, schema=schema)
