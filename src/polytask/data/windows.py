"""Long texts as overlapping windows: an engine that reads all tokens of a text and combines the windows' outputs.

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

# How to read texts that are longer than the model's limit.
Long: TypeAlias = Literal["truncate", "windows"]
# Share of a window that overlaps with the next one.
OVERLAP = 0.25


@dataclass(frozen=True)
class Windows:
    """The windows of one text.

    Attributes:
        rows: tokenised windows; each word belongs to one window, and `word_tokens` has only a window's own words.
        new: number of tokens in each window that no earlier window has.
        words: for each window, the indices of its own words among those that have a token.
    """

    rows: list[TokenRow]
    new: list[int]
    words: list[NDArray[np.intp]]


def starts_of(tokens: int, size: int) -> list[int]:
    """Return the starts of windows of `size` tokens; the last window ends with the text.

    >>> starts_of(250, 100)
    [0, 75, 150]
    >>> starts_of(100, 100)
    [0]
    """
    step = max(1, size - int(OVERLAP * size))
    return [*range(0, max(tokens - size, 0), step), max(tokens - size, 0)]


def count_windows(row: TokenRow, tokens: Tokenization) -> int:
    """Return the number of windows of a text; 1 if it fits, or was truncated."""
    special = sum(tokens.frame)
    return len(starts_of(len(row.ids) - special, tokens.max_tokens - special))


def cut(row: TokenRow, max_tokens: int, frame: tuple[int, int]) -> Windows:
    """Cut a text into windows of `max_tokens`; a text that fits is a single window.

    Args:
        row: a text that was not truncated.
        frame: numbers of special tokens before and after a text.
    """
    first, last = frame
    length = len(row.ids) - first - last
    size = max_tokens - first - last
    places = np.asarray(row.word_tokens, dtype=np.int64)
    has_token = np.flatnonzero(places >= 0)
    if length <= size:
        return Windows([row], [length], [np.arange(len(has_token))])
    starts = starts_of(length, size)
    words = _by_home(_homes(places[has_token] - first, starts, size, length), len(starts))
    # Converted to arrays once, so that the cost of a window does not depend on the length of the text.
    ids = np.asarray(row.ids)
    type_ids = None if row.type_ids is None else np.asarray(row.type_ids)
    rows = [
        TokenRow(
            _slice(ids, start, size, frame),
            None if type_ids is None else _slice(type_ids, start, size, frame),
            (places[has_token[window_words]] - start).tolist(),
            truncated=False,
        )
        for start, window_words in zip(starts, words, strict=True)
    ]
    ends = [0, *(start + size for start in starts)]
    new = [start + size - end for start, end in zip(starts, ends, strict=False)]
    return Windows(rows, new, words)


def _slice(values: NDArray[Any], start: int, size: int, frame: tuple[int, int]) -> list[int]:
    """Return a window's values, with those of the special tokens around them."""
    first, last = frame
    inner = values[first + start : first + start + size]
    return [*values[:first].tolist(), *inner.tolist(), *values[len(values) - last :].tolist()]


def _by_home(home: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """Return the words of each window, ascending."""
    order = np.argsort(home, kind="stable")
    return np.split(order, np.searchsorted(home[order], np.arange(1, count)))


def _homes(tokens: NDArray[np.int64], starts: Sequence[int], size: int, length: int) -> NDArray[np.intp]:
    """Return for each word the window in which its first token is farthest from an edge inside the text."""
    begins = np.asarray(starts, dtype=np.int64)
    latest = np.searchsorted(begins, tokens, side="right") - 1
    # A token is in at most three windows: overlaps are a quarter, and the last window is moved back to the end.
    tried = latest - np.arange(3)[:, None]
    at = begins[np.maximum(tried, 0)]
    left, right = tokens - at, at + size - 1 - tokens
    inside = (tried >= 0) & (left >= 0) & (right >= 0)
    # The ends of the text are not edges that cut off context.
    left = np.where(at == 0, length, left)
    right = np.where(at + size == length, length, right)
    return latest - np.where(inside, np.minimum(left, right), -1).argmax(0)


class WindowEngine:
    """Runs a model on whole texts: texts beyond its limit are read as windows, whose outputs are combined.

    At row level the windows' answers are averaged, weighted by the number of tokens that each is the first to read; at
    word level each word is answered by the window in which it has most context.
    """

    def __init__(self, engine: Engine, tasks: Mapping[str, Task], tokens: Tokenization) -> None:
        self._engine = engine
        self._tasks = tasks
        self._max_tokens = tokens.max_tokens
        self._frame = tokens.frame

    def run(self, rows: Sequence[TokenRow], tasks: Sequence[tuple[str, ...]]) -> list[RowOutputs]:
        """Return the raw outputs of each row for the tasks that read it (see `Engine`); rows may have any length."""
        texts = [cut(row, self._max_tokens, self._frame) for row in rows]
        pieces = [(text, number) for text, windows in enumerate(texts) for number in range(len(windows.rows))]
        outputs: list[list[RowOutputs]] = [[{} for _ in windows.rows] for windows in texts]
        lengths = [len(texts[text].rows[number].ids) for text, number in pieces]
        for group in groups_by_length(lengths):
            chosen = [pieces[index] for index in group]
            group_outputs = self._engine.run(
                [texts[text].rows[number] for text, number in chosen], [tasks[text] for text, _ in chosen]
            )
            for (text, number), window_outputs in zip(chosen, group_outputs, strict=True):
                outputs[text][number] = window_outputs
        return [
            parts[0] if len(parts) == 1 else {name: self._join(name, parts, text) for name in names}
            for text, parts, names in zip(texts, outputs, tasks, strict=True)
        ]

    def _join(self, name: str, outputs: Sequence[RowOutputs], text: Windows) -> Outputs:
        task, parts = self._tasks[name], [window_outputs[name] for window_outputs in outputs]
        if task.level == "row":
            return task.averaged(np.stack(parts), np.array(text.new, np.float64) / sum(text.new))
        joined = np.empty((sum(map(len, text.words)), parts[0].shape[-1]), np.float32)
        for words, part in zip(text.words, parts, strict=True):
            joined[words] = part
        return joined

    def describe(self) -> dict[str, Any]:
        """Return the device and precision, for users."""
        return self._engine.describe()
