"""The resumable stream: which rows come next is a function of (seed, source, stratum, epoch, position).

A source is divided into strata: rows that carry the labels of the same tasks. A row that is drawn serves every task
that draws from its stratum in the step, as long as the task has not seen it in its epoch. Tasks that go through a
stratum together stand at the same position, and one integer is their whole state: restarting in mid-epoch costs one
permutation. A task that trains on some of the rows only, or that began later than the others, remembers in one bit a
row which of them it has still to see in its epoch. Every task sees each of its rows once an epoch in any case.

Strata of more than `WHOLE_ROWS` rows are ordered shard by shard (`data/shards.py`), so that neither a restart nor what
is held grows with them.
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

# Strata of up to so many rows have the order of an epoch in memory, which takes a few hundredths of a second to make.
WHOLE_ROWS = 65_536

# Rows of a source, by number: a stretch of them, or listed.
Rows = range | NDArray[np.intp]


def rows_by_stratum(source: Source) -> list[tuple[tuple[str, ...], Rows]]:
    """Return the strata of a source: the tasks and the rows of each. Rows without any label belong to none."""
    if all(len(source.drawn[task]) == len(source) for task in source.tasks):
        return [(source.tasks, range(len(source)))] if len(source) else []
    # For each row the number of its set of tasks, and these sets.
    codes, sets = np.zeros(len(source), dtype=np.int32), [dict[str, None]()]
    for task in source.tasks:
        codes *= 2
        codes[source.drawn[task]] += 1
        occur = np.bincount(codes, minlength=2 * len(sets)) > 0
        # Counted anew, so that there are never more numbers than sets, in the same order.
        codes = (np.cumsum(occur, dtype=np.int32) - 1)[codes]
        sets = [{**sets[code // 2], **({task: None} if code % 2 else {})} for code in np.flatnonzero(occur).tolist()]
    order = np.argsort(-codes, kind="stable")
    sizes = np.bincount(codes, minlength=len(sets))[::-1]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [(tuple(tasks), _stretch(rows)) for tasks, rows in zip(reversed(sets), parts, strict=True) if tasks]


def _stretch(rows: NDArray[np.intp]) -> Rows:
    """Return ascending rows as a stretch where they are one."""
    first, last = int(rows[0]), int(rows[-1])
    return range(first, last + 1) if last - first + 1 == len(rows) else rows


def strata(source: Source) -> tuple[Stratum, ...]:
    """Return the strata of a source, as a schedule needs to know them."""
    return tuple(Stratum(tasks, len(rows)) for tasks, rows in rows_by_stratum(source))


@dataclass
class Cursor:
    """How far a task is in a stratum.

    Attributes:
        epoch: passes through the stratum that are complete.
        position: rows that the task has seen in this pass.
        left: those that it has still to see; None while it has seen just the first ones of the epoch's order.
    """

    epoch: int = 0
    position: int = 0
    left: RemainingRows | None = None

    def restart(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0
        if self.left is not None:
            self.left.restart(self.epoch)

    def leave_order(self, ordering: Ordering) -> None:
        """From now on rows may be seen in another order than the epoch's."""
        if self.left is None:
            self.left = ordering.left(self.epoch, self.position)

    def to_json(self, rows: int) -> Any:  # noqa: ANN401
        """Return the rows drawn so far; with what is left, where that does not follow from them."""
        drawn = self.epoch * rows + self.position
        return drawn if self.left is None else [drawn, *self.left.to_json()]

    @classmethod
    def from_json(cls, value: Any, rows: int, ordering: Ordering) -> Cursor:  # noqa: ANN401
        """Read what `to_json` returns."""
        drawn, saved = (value[0], value[1:]) if isinstance(value, list) else (value, None)
        epoch, position = divmod(drawn, rows)
        return cls(epoch, position, None if saved is None else ordering.read_left(epoch, saved))


@dataclass
class _Pass:
    """A row on its way through the encoder, and the tasks that it serves, each with its epoch."""

    row: int
    tasks: dict[str, int]


class StratumStream:
    """Draws the rows of one stratum, by their place in the ordering."""

    def __init__(self, stratum: Stratum, ordering: Ordering) -> None:
        self.tasks, self.rows, self.ordering = stratum.tasks, stratum.rows, ordering
        self.cursors = {task: Cursor() for task in stratum.tasks}

    def drawn(self, task: str) -> int:
        """Return how many rows a task has drawn."""
        return self.cursors[task].epoch * self.rows + self.cursors[task].position

    def draw(self, counts: Mapping[str, int]) -> list[_Pass]:
        """Draw so many rows for each task, in as few passes as may be."""
        wanted = {task: count for task, count in counts.items() if count}
        places = {(cursor.epoch, cursor.position) for cursor in map(self.cursors.__getitem__, wanted)}
        in_order = all(self.cursors[task].left is None for task in wanted)
        if in_order and len(places) <= 1 and len(set(wanted.values())) <= 1:
            return self._draw_together(wanted)
        return _Draw(self, wanted).passes

    def _draw_together(self, wanted: Mapping[str, int]) -> list[_Pass]:
        """Draw for tasks that stand at the same position: the next rows of the order serve all of them."""
        cursors, count = [self.cursors[task] for task in wanted], max(wanted.values(), default=0)
        passes: list[_Pass] = []
        while count:
            epoch, start = cursors[0].epoch, cursors[0].position
            rows = self.ordering.following(epoch, start, count).tolist()
            passes += [_Pass(row, dict.fromkeys(wanted, epoch)) for row in rows]
            count -= len(rows)
            epoch, position = divmod(epoch * self.rows + start + len(rows), self.rows)
            for cursor in cursors:
                cursor.epoch, cursor.position = epoch, position
        self.ordering.keep({cursor.epoch for cursor in self.cursors.values()})
        return passes


class _Draw:
    """One draw for tasks that stand apart, or that want different numbers of rows.

    The task that wants the fewest rows chooses first, of the rows that it has still to see, those that the others have
    still to see as well. The others join it on these, and take of the rest those that nobody else is waiting for.
    """

    def __init__(self, stream: StratumStream, wanted: Mapping[str, int]) -> None:
        self._stream = stream
        self.passes: list[_Pass] = []
        for task, cursor in stream.cursors.items():
            if task in wanted or cursor.position:
                cursor.leave_order(stream.ordering)
        tasks = sorted(wanted, key=wanted.__getitem__)
        for place, task in enumerate(tasks, start=1):
            self._serve(task, wanted[task], tasks[place:])
        for cursor in (stream.cursors[task] for task in tasks):
            if cursor.position == stream.rows:
                cursor.restart()
            if not cursor.position:
                cursor.left = None
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
        """Let a task train on up to so many rows that others have drawn in this step, and return them."""
        assert cursor.left is not None
        joined: list[_Pass] = []
        if self.passes:
            claims = cursor.left.claims(np.array([one.row for one in self.passes])).tolist()
            seen: set[int] = set()
            for one, claim in zip(self.passes, claims, strict=True):
                if len(joined) < count and claim and task not in one.tasks and one.row not in seen:
                    one.tasks[task] = cursor.epoch
                    joined.append(one)
                    seen.add(one.row)
        rows = [one.row for one in joined]
        cursor.left.take(np.array(rows, dtype=np.int64))
        return rows

    def _choose(self, task: str, cursor: Cursor, count: int, later: Sequence[str]) -> list[int]:
        """Return up to so many rows that a task has still to see: each will pass the encoder for it."""
        own = cursor.left
        assert own is not None
        waiting = {
            name: cursor.left
            for name, cursor in self._stream.cursors.items()
            if name != task and cursor.left is not None
        }
        after = [waiting[name] for name in later if name in waiting]
        others = [left for name, left in waiting.items() if name not in later]
        rows = own.candidates(count, after, others)
        if count < len(rows):
            number = len(self._stream.tasks) - 1
            cost = np.zeros(len(rows), dtype=np.intp)
            for left in others:  # of tasks in the order of the epoch all rows are left
                cost += left.claims(rows)
            for left in after:
                cost -= number * (left.claims(rows) > 0)
            # What this step has drawn already, and the task saw as the last of its epoch, comes after everything else.
            drawn = np.isin(rows, [one.row for one in self.passes])
            cost += drawn * 2 * (number + 1) ** 2
            rows = rows[np.argsort(cost, kind="stable")[:count]]
        own.take(rows)
        return rows.tolist()


@dataclass(frozen=True)
class DrawnRow:
    """A row of a batch to be: where it stands and which tasks it serves.

    Attributes:
        epochs: for each of these tasks the passes that it has completed.
    """

    source: int
    row: int
    tasks: tuple[str, ...]
    epochs: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)


class Streams:
    """The streams of all training sources.

    Args:
        block: rows of similar length that come together.
        whole_rows: the greatest stratum whose order of an epoch is held as a whole.
        shard_rows: of a shard of those that are greater.
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
            for stratum, (tasks, found) in enumerate(rows_by_stratum(source)):
                rows, where = _StratumRows(found), {"seed": seed, "source": number, "stratum": stratum, "block": block}
                lengths = partial(_lengths, source, rows)
                ordering = WholeOrdering(len(found), lengths, **where)
                if len(found) > whole_rows:
                    ordering = ShardOrdering(len(found), lengths, shard_rows, **where)
                    rows.spread = ordering.spread
                self._rows[-1].append(rows)
                self._streams[-1].append(StratumStream(Stratum(tasks, len(found)), ordering))

    def draw(self, portions: Iterable[Portion]) -> list[DrawnRow]:
        """Draw what a step asks for; a row serves every task that draws it together with others."""
        return [row for portion in portions for row in self._draw(portion)]

    def _draw(self, portion: Portion) -> Iterator[DrawnRow]:
        passes = self._streams[portion.source][portion.stratum].draw(portion.rows)
        rows = self._rows[portion.source][portion.stratum].at(np.array([one.row for one in passes], dtype=np.int64))
        for row, one in zip(rows.tolist(), passes, strict=True):
            yield DrawnRow(portion.source, row, tuple(sorted(one.tasks, key=self._places.__getitem__)), one.tasks)

    def draw_each(self, rows: Mapping[str, int]) -> list[DrawnRow]:
        """Draw so many rows for each task, of each stratum by what the task has still to see of it."""
        return self.draw(self._portions(rows))

    def _portions(self, rows: Mapping[str, int]) -> list[Portion]:
        found: dict[tuple[int, int], dict[str, int]] = {}
        for task, count in rows.items():
            own = {
                (source, number): stratum
                for source, streams in enumerate(self._streams)
                for number, stratum in enumerate(streams)
                if task in stratum.tasks
            }
            for place, given in zip(own, _divide(count, task, list(own.values())), strict=True):
                if given:
                    found.setdefault(place, {})[task] = int(given)
        return [Portion(*place, counts) for place, counts in sorted(found.items(), key=lambda item: item[0])]

    def state_dict(self) -> list[list[Any]]:
        """Return how far the tasks are in each stratum of each source: one value where they go together."""
        return [[_to_json(stream) for stream in streams] for streams in self._streams]

    def load_state_dict(self, state: Sequence[Sequence[Any]]) -> None:
        """Go on from a saved state."""
        for streams, values in zip(self._streams, state, strict=True):
            for stream, value in zip(streams, values, strict=True):
                given = value if isinstance(value, dict) else dict.fromkeys(stream.tasks, value)
                stream.cursors = {
                    task: Cursor.from_json(given[task], stream.rows, stream.ordering) for task in stream.tasks
                }


class _StratumRows:
    """Which rows of its source a stratum holds.

    Attributes:
        spread: from places of the ordering to rows of the stratum; None where they are the same.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.spread: Callable[[Places], Places] | None = None

    def at(self, places: Places) -> Places:
        """Return the rows of the source at some places of the ordering."""
        return self.listed(places if self.spread is None else self.spread(places))

    def listed(self, numbers: Places) -> Places:
        """Return the rows of the source that are those of the stratum."""
        return self._rows.start + numbers if isinstance(self._rows, range) else self._rows[numbers]


def _lengths(source: Source, rows: _StratumRows, numbers: Places) -> NDArray[np.int32]:
    return source.lengths[rows.listed(numbers)]


def _to_json(stream: StratumStream) -> Any:  # noqa: ANN401
    values = {task: cursor.to_json(stream.rows) for task, cursor in stream.cursors.items()}
    first, *others = values.values()
    return first if isinstance(first, int) and all(value == first for value in others) else values


def _divide(count: int, task: str, streams: Sequence[StratumStream]) -> NDArray[np.intp]:
    """Divide a task's rows among the strata, in proportion to what it has still to see of each in its epoch."""
    sizes = np.array([stream.rows for stream in streams])
    drawn = np.array([stream.drawn(task) for stream in streams])
    left = np.maximum((int((drawn // sizes).min()) + 1) * sizes - drawn, 0)
    found = np.zeros_like(sizes)
    while count >= left.sum():
        found, count, left = found + left, count - int(left.sum()), sizes
    exact = left * count / max(int(left.sum()), 1)
    whole = np.floor(exact).astype(np.intp)
    whole[np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]] += 1
    return found + whole
