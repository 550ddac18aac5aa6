"""Token ids: a table of rows tokenised once, in batches, into another Arrow file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polytask.data.cache import cached, key_of
from polytask.data.columns import Matrices, Ragged, flat
from polytask.data.rows import Table
from polytask.tasks import Task
from polytask.terms import Split, Word

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000


@dataclass(frozen=True)
class TokenRow:
    """A tokenised text.

    Attributes:
        ids: token ids with the special ones.
        type_ids: 0 for the first text, 1 for the second; None where the tokenizer makes none.
        word_tokens: for each word the index of its first token; -1 for one that was dropped or cut off.
        truncated: whether the text was longer than the limit.
    """

    ids: Sequence[int]
    type_ids: Sequence[int] | None
    word_tokens: Sequence[int]
    truncated: bool


@dataclass(frozen=True)
class Source:
    """The encoded rows of a feed.

    Attributes:
        lengths: tokens of each row.
        carries: for each task the rows that carry its label, ascending.
        targets: for each task a column of what the loss takes.
        taught: for each task that has a teacher, what the teacher answers: a line a row, or a line a word.
    """

    name: str
    split: Split
    tasks: tuple[str, ...]
    raw: Dataset
    lengths: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    ids: Ragged
    type_ids: Ragged | None
    word_tokens: Ragged
    targets: Mapping[str, Any]
    carries: Mapping[str, NDArray[np.int32]]
    taught: Mapping[str, Matrices] = field(default_factory=dict[str, Matrices])

    def __len__(self) -> int:
        return len(self.lengths)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str | None] | None,
    words: Sequence[Sequence[Word] | None],
    max_tokens: int,
) -> list[TokenRow]:
    """Tokenise texts (or pairs of them) and find each word's first token by its characters.

    Args:
        pairs: for each text its second text, or None where it stands alone.
        words: for each text its words, or None.
        max_tokens: at most so many tokens a text, special ones included; for a pair, both together.
    """
    seconds = [None] * len(texts) if pairs is None else pairs
    found: dict[int, TokenRow] = {}
    for paired in (False, True):  # the tokenizer takes a list of texts or a list of pairs
        at = [index for index, second in enumerate(seconds) if (second is not None) == paired]
        if at:
            inputs = [texts[index] for index in at], [seconds[index] for index in at] if paired else None
            found.update(
                zip(at, _tokenize(tokenizer, *inputs, [words[index] for index in at], max_tokens), strict=True)
            )
    return [found[index] for index in range(len(texts))]


def _tokenize(
    tokenizer: Any,  # noqa: ANN401
    texts: list[str],
    seconds: list[str | None] | None,
    words: Sequence[Sequence[Word] | None],
    max_tokens: int,
) -> Iterator[TokenRow]:
    encoded = tokenizer(
        texts, seconds, truncation=True, max_length=max_tokens, return_attention_mask=False, padding=False
    )
    for index, spans in enumerate(words):
        encoding = encoded.encodings[index]
        type_ids = encoded["token_type_ids"][index] if "token_type_ids" in encoded else None
        found = [] if spans is None else first_tokens(encoding, spans)
        yield TokenRow(encoded["input_ids"][index], type_ids, found, bool(encoding.overflowing))


def first_tokens(encoding: Any, words: Sequence[Word]) -> list[int]:  # noqa: ANN401
    """Return for each word the index of the first token that covers a part of it, or -1."""
    inside = [index for index, sequence in enumerate(encoding.sequence_ids) if sequence == 0]
    offsets = np.array([encoding.offsets[index] for index in inside], dtype=np.int64).reshape(-1, 2)
    if not len(offsets) or not words:
        return [-1] * len(words)
    # Ends rise with the position, so the first token that ends behind a word's start is the candidate.
    candidates = np.searchsorted(offsets[:, 1], [word.start for word in words], side="right")
    return [
        inside[at] if at < len(inside) and offsets[at, 0] < word.end and word.start < word.end else -1
        for at, word in zip(candidates.tolist(), words, strict=True)
    ]


def encode_table(
    table: Table,
    tasks: Mapping[str, Task],
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    max_tokens: int,
) -> Source:
    """Tokenise a table and encode its labels, or find both in the cache.

    Args:
        fingerprint: identifies the tokenizer.
    """
    from datasets import Dataset

    own = {name: tasks[name] for name in table.feed.tasks}
    fitted = {name: task.to_json()["fitted"] for name, task in own.items()}
    key = key_of(table.digest, fingerprint, max_tokens, fitted)

    def make(path: Path) -> None:
        schema = _schema(own)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for start in range(0, len(table.rows), _BATCH):
                writer.write_batch(_encode(table.rows[start : start + _BATCH], own, tokenizer, max_tokens, schema))

    data = Dataset.from_file(str(cached(f"{key}.tokens.arrow", make))).data
    targets: dict[str, Any] = {}
    carries: dict[str, NDArray[np.int32]] = {}
    for name, task in own.items():
        column = data.column(f"target.{name}")
        has = ~column.is_null().to_numpy()
        carries[name] = np.flatnonzero(has).astype(np.int32)
        targets[name] = Ragged(column) if isinstance(_target_type(task), pa.ListType) else flat(column)
    type_ids = data.column("type_ids")
    return Source(
        name=table.feed.name,
        split=table.feed.split,
        tasks=tuple(own),
        raw=table.rows,
        lengths=flat(data.column("length")).astype(np.int32),
        truncated=data.column("truncated").to_numpy(),
        ids=Ragged(data.column("ids")),
        type_ids=None if type_ids.null_count else Ragged(type_ids),
        word_tokens=Ragged(data.column("word_tokens")),
        targets=targets,
        carries=carries,
    )


def _target_type(task: Task) -> pa.DataType:
    if task.level == "word":
        return pa.list_(pa.int32())
    return {"string": pa.int32(), "double": pa.float32(), "list<string>": pa.list_(pa.float32())}[task.gold_type]


def _schema(tasks: Mapping[str, Task]) -> pa.Schema:
    numbers = pa.list_(pa.int32())
    fixed = [("ids", numbers), ("type_ids", numbers), ("word_tokens", numbers)]
    sizes = [("length", pa.int32()), ("truncated", pa.bool_())]
    return pa.schema([*fixed, *sizes, *((f"target.{name}", _target_type(task)) for name, task in tasks.items())])


def _encode(
    rows: Mapping[str, list[Any]],
    tasks: Mapping[str, Task],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    schema: pa.Schema,
) -> pa.RecordBatch:
    words = [
        None if starts is None else [Word(*span) for span in zip(starts, ends, strict=True)]
        for starts, ends in zip(rows["starts"], rows["ends"], strict=True)
    ]
    encoded = tokenize(tokenizer, rows["text"], rows["pair"], words, max_tokens)
    data: dict[str, list[Any]] = {
        "ids": [row.ids for row in encoded],
        "type_ids": [row.type_ids for row in encoded],
        "word_tokens": [row.word_tokens for row in encoded],
        "length": [len(row.ids) for row in encoded],
        "truncated": [row.truncated for row in encoded],
    }
    for name, task in tasks.items():
        golds = rows[f"gold.{name}"]
        data[f"target.{name}"] = [None if gold is None else task.encode(gold) for gold in golds]
    return pa.RecordBatch.from_pydict(data, schema=schema)
