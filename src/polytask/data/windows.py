"""Long texts as overlapping windows: an engine that reads every token of a text, and joins what the windows say.

No model was trained on windows: a window that begins in the middle of a text is read as if it were one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.data.engine import Engine, RowOutputs
from polytask.data.groups import groups_by_length
from polytask.data.tokens import Tokenization, TokenRow
from polytask.tasks import Task
from polytask.tasks.arrays import Outputs

# What becomes of a text that is longer than the model reads.
Long: TypeAlias = Literal["truncate", "windows"]
# The share of a window that the next one reads again.
OVERLAP = 0.25


@dataclass(frozen=True)
class Windows:
    """The windows of one text.

    Attributes:
        rows: tokenised; a window has the tokens of its own words only, and each word is one window's.
        new: for each window how many tokens of the text no window before it has.
        words: for each window which of the words that have a token are its own.
    """

    rows: list[TokenRow]
    new: list[int]
    words: list[NDArray[np.intp]]


def starts_of(tokens: int, size: int) -> list[int]:
    """Return where windows of `size` tokens begin; the last one ends with the text.

    >>> starts_of(250, 100)
    [0, 75, 150]
    >>> starts_of(100, 100)
    [0]
    """
    step = max(1, size - int(OVERLAP * size))
    return [*range(0, max(tokens - size, 0), step), max(tokens - size, 0)]


def count_windows(row: TokenRow, tokens: Tokenization) -> int:
    """Return in how many windows a text is read; 1 where it fits, or was cut."""
    special = sum(tokens.frame)
    return len(starts_of(len(row.ids) - special, tokens.max_tokens - special))


def cut(row: TokenRow, max_tokens: int, frame: tuple[int, int]) -> Windows:
    """Cut a whole text into windows of `max_tokens`; one that fits is its own window, as it is.

    Args:
        row: a text of which nothing was cut off.
        frame: how many special tokens stand before and behind a text.
    """
    first, last = frame
    length = len(row.ids) - first - last
    size = max_tokens - first - last
    places = np.asarray(row.word_tokens, dtype=np.int64)
    kept = np.flatnonzero(places >= 0)
    if length <= size:
        return Windows([row], [length], [np.arange(len(kept))])
    starts = starts_of(length, size)
    words = _by_home(_homes(places[kept] - first, starts, size, length), len(starts))
    # As arrays, once: a window then costs what it holds, whatever the length of the text.
    ids = np.asarray(row.ids)
    type_ids = None if row.type_ids is None else np.asarray(row.type_ids)
    rows = [
        TokenRow(
            _slice(ids, start, size, frame),
            None if type_ids is None else _slice(type_ids, start, size, frame),
            (places[kept[own]] - start).tolist(),
            truncated=False,
        )
        for start, own in zip(starts, words, strict=True)
    ]
    ends = [0, *(start + size for start in starts)]
    new = [start + size - end for start, end in zip(starts, ends, strict=False)]
    return Windows(rows, new, words)


def _slice(values: NDArray[Any], start: int, size: int, frame: tuple[int, int]) -> list[int]:
    """Return a window's values between those of the special tokens."""
    first, last = frame
    inner = values[first + start : first + start + size]
    return [*values[:first].tolist(), *inner.tolist(), *values[len(values) - last :].tolist()]


def _by_home(home: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Return for each of so many windows the words whose home it is, ascending."""
    order = np.argsort(home, kind="stable")
    return np.split(order, np.searchsorted(home[order], np.arange(1, count)))


def _homes(tokens: NDArray[np.int64], starts: Sequence[int], size: int, length: int) -> NDArray[np.intp]:
    """Return for each word the window in which its first token stands farthest from an edge inside the text."""
    begins = np.asarray(starts, dtype=np.int64)
    latest = np.searchsorted(begins, tokens, side="right") - 1
    # A token stands in three windows at most: overlaps are a quarter, and the last window is moved back to the end.
    tried = latest - np.arange(3)[:, None]
    at = begins[np.maximum(tried, 0)]
    left, right = tokens - at, at + size - 1 - tokens
    inside = (tried >= 0) & (left >= 0) & (right >= 0)
    # The ends of the text cut nothing off.
    left = np.where(at == 0, length, left)
    right = np.where(at + size == length, length, right)
    return latest - np.where(inside, np.minimum(left, right), -1).argmax(0)


class WindowEngine:
    """Runs a model on whole texts: those that are too long for it as windows, whose outputs are joined.

    At row level the windows' answers are averaged, each weighing as many tokens as it is the first to read; at word
    level each word is answered by the window in which it has most context.
    """

    def __init__(self, engine: Engine, tasks: Mapping[str, Task], tokens: Tokenization) -> None:
        self._engine = engine
        self._tasks = tasks
        self._max_tokens = tokens.max_tokens
        self._frame = tokens.frame

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return each row's raw outputs of the tasks that read it (see `Engine`); rows may have any length."""
        texts = [cut(row, self._max_tokens, self._frame) for row in rows]
        pieces = [(text, number) for text, found in enumerate(texts) for number in range(len(found.rows))]
        outputs: list[list[RowOutputs]] = [[{} for _ in found.rows] for found in texts]
        lengths = [len(texts[text].rows[number].ids) for text, number in pieces]
        for group in groups_by_length(lengths):
            chosen = [pieces[index] for index in group]
            said = self._engine.run(
                [texts[text].rows[number] for text, number in chosen], [tasks[text] for text, _ in chosen]
            )
            for (text, number), found in zip(chosen, said, strict=True):
                outputs[text][number] = found
        return [
            found[0] if len(found) == 1 else {name: self._join(name, found, text) for name in names}
            for text, found, names in zip(texts, outputs, tasks, strict=True)
        ]

    def _join(self, name: str, outputs: Sequence[RowOutputs], text: Windows) -> Outputs:
        task, parts = self._tasks[name], [found[name] for found in outputs]
        if task.level == "row":
            return task.averaged(np.stack(parts), np.array(text.new, np.float64) / sum(text.new))
        joined = np.empty((sum(map(len, text.words)), parts[0].shape[-1]), np.float32)
        for words, part in zip(text.words, parts, strict=True):
            joined[words] = part
        return joined

    def describe(self) -> dict[str, Any]:
        """Return where and in which precision it runs, for people."""
        return self._engine.describe()
