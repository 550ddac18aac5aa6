"""The resumable stream: which rows come next is a function of (seed, source, stratum, epoch, position).

A source is divided into strata: rows with labels of the same tasks. A row that is drawn serves every task that draws
from its stratum in the step and has not yet seen the row in its epoch. Tasks that go through a stratum together are at
the same position, and one integer is their whole state: resuming in the middle of an epoch costs one permutation. A
task that trains on only some of the rows, or that began later than the others, stores in one bit per row which rows it
still has to see in its epoch. In any case, every task sees each of its rows once per epoch.

Strata of more than `WHOLE_ROWS` rows are ordered shard by shard (`data/shards.py`), so that neither the time to resume
nor the memory grows with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.data.encode import Source
from polytask.data.order import Ordering, Places, RemainingRows, WholeOrdering
from polytask.data.shards import SHARD_ROWS, ShardOrdering
from polytask.terms import Portion, Stratum

# For strata of up to this size the order of an epoch is held in memory; it takes a few hundredths of a second to make.
WHOLE_ROWS = 65_536

# Row numbers of a source: a range, or a list.
Rows = range | NDArray[np.intp]


def rows_by_stratum(source: Source) -> list[tuple[tuple[str, ...], Rows]]:
    """Return the tasks and rows of each stratum of a source. Rows without any label belong to no stratum."""
    if all(len(source.drawn[task]) == len(source) for task in source.tasks):
        return [(source.tasks, range(len(source)))] if len(source) else []
    # The index of each row's set of tasks, and these sets.
    codes, sets = np.zeros(len(source), dtype=np.int32), [dict[str, None]()]
    for task in source.tasks:
        codes *= 2
        codes[source.drawn[task]] += 1
        occur = np.bincount(codes, minlength=2 * len(sets)) > 0
        # Renumbered, so that there are as many indices as sets, in the same order.
        codes = (np.cumsum(occur, dtype=np.int32) - 1)[codes]
        sets = [{**sets[code // 2], **({task: None} if code % 2 else {})} for code in np.flatnonzero(occur).tolist()]
    order = np.argsort(-codes, kind="stable")
    sizes = np.bincount(codes, minlength=len(sets))[::-1]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [(tuple(tasks), _as_range(rows)) for tasks, rows in zip(reversed(sets), parts, strict=True) if tasks]


def _as_range(rows: NDArray[np.intp]) -> Rows:
    """Return ascending rows as a range if they are contiguous."""
    first, last = int(rows[0]), int(rows[-1])
    return range(first, last + 1) if last - first + 1 == len(rows) else rows


def strata(source: Source) -> tuple[Stratum, ...]:
    """Return the strata of a source, in the form that schedules need."""
    return tuple(Stratum(tasks, len(rows)) for tasks, rows in rows_by_stratum(source))


@dataclass
class Cursor:
    """The position of a task in a stratum.

    Attributes:
        epoch: number of complete passes through the stratum.
        position: number of rows that the task has seen in this pass.
        remaining: rows that it still has to see; None while it follows the epoch's order.
    """

    epoch: int = 0
    position: int = 0
    remaining: RemainingRows | None = None

    def restart(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0
        if self.remaining is not None:
            self.remaining.restart(self.epoch)

    def leave_order(self, ordering: Ordering) -> None:
        """Allow rows to be seen in another order than the epoch's from now on."""
        if self.remaining is None:
            self.remaining = ordering.remaining(self.epoch, self.position)

    def to_json(self, rows: int) -> Any:  # noqa: ANN401
        """Return the number of rows drawn so far, with the remaining rows if the task has left the epoch's order."""
        drawn = self.epoch * rows + self.position
        return drawn if self.remaining is None else [drawn, *self.remaining.to_json()]

    @classmethod
    def from_json(cls, value: Any, rows: int, ordering: Ordering) -> Cursor:  # noqa: ANN401
        """Restore a cursor from `to_json`."""
        drawn, saved = (value[0], value[1:]) if isinstance(value, list) else (value, None)
        epoch, position = divmod(drawn, rows)
        return cls(epoch, position, None if saved is None else ordering.read_remaining(epoch, saved))


@dataclass
class _Pass:
    """A row that passes through the encoder, and the tasks that it serves, each with its epoch."""

    row: int
    tasks: dict[str, int]


class StratumStream:
    """Draws the rows of one stratum, as places in the ordering."""

    def __init__(self, stratum: Stratum, ordering: Ordering) -> None:
        self.tasks, self.rows, self.ordering = stratum.tasks, stratum.rows, ordering
        self.cursors = {task: Cursor() for task in stratum.tasks}

    def drawn(self, task: str) -> int:
        """Return the number of rows that a task has drawn."""
        return self.cursors[task].epoch * self.rows + self.cursors[task].position

    def draw(self, counts: Mapping[str, int]) -> list[_Pass]:
        """Draw a number of rows for each task, with as few passes through the encoder as possible."""
        requested = {task: count for task, count in counts.items() if count}
        places = {(cursor.epoch, cursor.position) for cursor in map(self.cursors.__getitem__, requested)}
        in_order = all(self.cursors[task].remaining is None for task in requested)
        if in_order and len(places) <= 1 and len(set(requested.values())) <= 1:
            return self._draw_together(requested)
        return _Draw(self, requested).passes

    def _draw_together(self, requested: Mapping[str, int]) -> list[_Pass]:
        """Draw for tasks at the same position: the next rows of the order serve all of them."""
        cursors, count = [self.cursors[task] for task in requested], max(requested.values(), default=0)
        passes: list[_Pass] = []
        while count:
            epoch, start = cursors[0].epoch, cursors[0].position
            rows = self.ordering.following(epoch, start, count).tolist()
            passes += [_Pass(row, dict.fromkeys(requested, epoch)) for row in rows]
            count -= len(rows)
            epoch, position = divmod(epoch * self.rows + start + len(rows), self.rows)
            for cursor in cursors:
                cursor.epoch, cursor.position = epoch, position
        self.ordering.keep({cursor.epoch for cursor in self.cursors.values()})
        return passes


class _Draw:
    """One draw for tasks at different positions, or with different numbers of rows.

    The task with the fewest rows chooses first, among its remaining rows, those that the others also still have to see.
    The others join it on these, and otherwise choose rows that no other task still has to see.
    """

    def __init__(self, stream: StratumStream, requested: Mapping[str, int]) -> None:
        self._stream = stream
        self.passes: list[_Pass] = []
        for task, cursor in stream.cursors.items():
            if task in requested or cursor.position:
                cursor.leave_order(stream.ordering)
        tasks = sorted(requested, key=requested.__getitem__)
        for place, task in enumerate(tasks, start=1):
            self._serve(task, requested[task], tasks[place:])
        for cursor in (stream.cursors[task] for task in tasks):
            if cursor.position == stream.rows:
                cursor.restart()
            if not cursor.position:
                cursor.remaining = None
        stream.ordering.keep({cursor.epoch for cursor in stream.cursors.values()})

    def _serve(self, task: str, count: int, later: Sequence[str]) -> None:
        cursor = self._stream.cursors[task]
        while count:
            if cursor.position == self._stream.rows:
                cursor.restart()
            rows = self._join(task, cursor, count)
            chosen = self._choose(task, cursor, count - len(rows), later) if count > len(rows) else []
            self.passes += [_Pass(row, {task: cursor.epoch}) for row in chosen]
            cursor.position += len(rows) + len(chosen)
            count -= len(rows) + len(chosen)

    def _join(self, task: str, cursor: Cursor, count: int) -> list[int]:
        """Let a task join on up to `count` rows that others have drawn in this step, and return these rows."""
        assert cursor.remaining is not None
        joined: list[_Pass] = []
        if self.passes:
            claims = cursor.remaining.claims(np.array([other.row for other in self.passes])).tolist()
            joined_rows: set[int] = set()
            for other, claim in zip(self.passes, claims, strict=True):
                if len(joined) < count and claim and task not in other.tasks and other.row not in joined_rows:
                    other.tasks[task] = cursor.epoch
                    joined.append(other)
                    joined_rows.add(other.row)
        rows = [other.row for other in joined]
        cursor.remaining.take(np.array(rows, dtype=np.int64))
        return rows

    def _choose(self, task: str, cursor: Cursor, count: int, later: Sequence[str]) -> list[int]:
        """Return up to `count` remaining rows of a task, each of which costs another pass through the encoder."""
        remaining = cursor.remaining
        assert remaining is not None
        waiting = {
            name: cursor.remaining
            for name, cursor in self._stream.cursors.items()
            if name != task and cursor.remaining is not None
        }
        after = [waiting[name] for name in later if name in waiting]
        others = [other for name, other in waiting.items() if name not in later]
        rows = remaining.candidates(count, after, others)
        if count < len(rows):
            number = len(self._stream.tasks) - 1
            cost = np.zeros(len(rows), dtype=np.intp)
            for other in others:  # tasks that follow the epoch's order are treated as if all rows remained
                cost += other.claims(rows)
            for other in after:
                cost -= number * (other.claims(rows) > 0)
            # Rows that this step has drawn already, at the end of the task's last epoch, come last.
            drawn = np.isin(rows, [item.row for item in self.passes])
            cost += drawn * 2 * (number + 1) ** 2
            rows = rows[np.argsort(cost, kind="stable")[:count]]
        remaining.take(rows)
        return rows.tolist()


@dataclass(frozen=True)
class DrawnRow:
    """A row to put into a batch: its source and number, and the tasks that it serves.

    Attributes:
        epochs: for each of these tasks, the number of passes that it has completed.
    """

    source: int
    row: int
    tasks: tuple[str, ...]
    epochs: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)


class Streams:
    """The streams of all training sources.

    Args:
        block: number of rows of similar length that are drawn together.
        whole_rows: maximum size of strata whose order of an epoch is held as a whole.
        shard_rows: number of rows of a shard of larger strata.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seed: int,
        block: int,
        whole_rows: int = WHOLE_ROWS,
        shard_rows: int = SHARD_ROWS,
    ) -> None:
        self._places = {task: place for source in sources for place, task in enumerate(source.tasks)}
        self._rows: list[list[_StratumRows]] = []
        self._streams: list[list[StratumStream]] = []
        for number, source in enumerate(sources):
            self._rows.append([])
            self._streams.append([])
            for stratum, (tasks, numbers) in enumerate(rows_by_stratum(source)):
                key = {"seed": seed, "source": number, "stratum": stratum, "block": block}
                rows = _StratumRows(numbers)
                lengths = partial(_lengths, source, rows)
                ordering = WholeOrdering(len(numbers), lengths, **key)
                if len(numbers) > whole_rows:
                    ordering = ShardOrdering(len(numbers), lengths, shard_rows, **key)
                    rows.spread = ordering.spread
                self._rows[-1].append(rows)
                self._streams[-1].append(StratumStream(Stratum(tasks, len(numbers)), ordering))

    def draw(self, portions: Iterable[Portion]) -> list[DrawnRow]:
        """Draw the rows of a step; a row serves all tasks that draw it together."""
        return [row for portion in portions for row in self._draw(portion)]

    def _draw(self, portion: Portion) -> Iterator[DrawnRow]:
        passes = self._streams[portion.source][portion.stratum].draw(portion.rows)
        places = np.array([item.row for item in passes], dtype=np.int64)
        rows = self._rows[portion.source][portion.stratum].at(places)
        for row, item in zip(rows.tolist(), passes, strict=True):
            yield DrawnRow(portion.source, row, tuple(sorted(item.tasks, key=self._places.__getitem__)), item.tasks)

    def draw_each(self, rows: Mapping[str, int]) -> list[DrawnRow]:
        """Draw a number of rows for each task, divided among strata in proportion to the task's remaining rows."""
        return self.draw(self._portions(rows))

    def _portions(self, rows: Mapping[str, int]) -> list[Portion]:
        portions: dict[tuple[int, int], dict[str, int]] = {}
        for task, count in rows.items():
            strata_of_task = {
                (source, number): stratum
                for source, streams in enumerate(self._streams)
                for number, stratum in enumerate(streams)
                if task in stratum.tasks
            }
            for place, share in zip(strata_of_task, _divide(count, task, list(strata_of_task.values())), strict=True):
                if share:
                    portions.setdefault(place, {})[task] = int(share)
        return [Portion(*place, counts) for place, counts in sorted(portions.items(), key=lambda item: item[0])]

    def state_dict(self) -> list[list[Any]]:
        """Return the tasks' positions in each stratum of each source: one value if all tasks go together."""
        return [[_to_json(stream) for stream in streams] for streams in self._streams]

    def load_state_dict(self, state: Sequence[Sequence[Any]]) -> None:
        """Restore a saved state."""
        for streams, values in zip(self._streams, state, strict=True):
            for stream, value in zip(streams, values, strict=True):
                positions = value if isinstance(value, dict) else dict.fromkeys(stream.tasks, value)
                stream.cursors = {
                    task: Cursor.from_json(positions[task], stream.rows, stream.ordering) for task in stream.tasks
                }


class _StratumRows:
    """The rows of a stratum, as rows of its source.

    Attributes:
        spread: maps places of the ordering to rows of the stratum; None if they are the same.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.spread: Callable[[Places], Places] | None = None

    def at(self, places: Places) -> Places:
        """Return the rows of the source at some places of the ordering."""
        return self.listed(places if self.spread is None else self.spread(places))

    def listed(self, numbers: Places) -> Places:
        """Convert rows of the stratum to rows of the source."""
        return self._rows.start + numbers if isinstance(self._rows, range) else self._rows[numbers]


def _lengths(source: Source, rows: _StratumRows, numbers: Places) -> NDArray[np.int32]:
    return source.lengths[rows.listed(numbers)]


def _to_json(stream: StratumStream) -> Any:  # noqa: ANN401
    values = {task: cursor.to_json(stream.rows) for task, cursor in stream.cursors.items()}
    first, *others = values.values()
    return first if isinstance(first, int) and all(value == first for value in others) else values


def _divide(count: int, task: str, streams: Sequence[StratumStream]) -> NDArray[np.intp]:
    """Divide a task's rows among the strata, in proportion to its remaining rows of each in this epoch."""
    sizes = np.array([stream.rows for stream in streams])
    drawn = np.array([stream.drawn(task) for stream in streams])
    remaining = np.maximum((int((drawn // sizes).min()) + 1) * sizes - drawn, 0)
    rows = np.zeros_like(sizes)
    while count >= remaining.sum():
        rows, count, remaining = rows + remaining, count - int(remaining.sum()), sizes
    exact = remaining * count / max(int(remaining.sum()), 1)
    floors = np.floor(exact).astype(np.intp)
    floors[np.argsort(floors - exact, kind="stable")[: count - int(floors.sum())]] += 1
    return rows + floors
