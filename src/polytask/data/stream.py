"""The resumable stream: which rows come next is a function of (seed, source, stratum, epoch, position).

A source is divided into strata: rows that carry the labels of the same tasks. A row that is drawn serves every task
that draws from its stratum in the step, as long as the task has not seen it in its epoch. Tasks that go through a
stratum together stand at the same position, and one integer is their whole state: restarting in mid-epoch costs one
permutation. A task that trains on some of the rows only, or that began later than the others, remembers in one bit a
row which of them it has still to see in its epoch. Every task sees each of its rows once an epoch in any case.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from polytask.data.encode import Source
from polytask.terms import Portion, Stratum

# Rows of similar length are drawn together: windows of this many blocks are sorted by length.
WINDOW_BLOCKS = 50
# A task that chooses among the rows that it has still to see looks at so many, which is enough to find those that
# others want as well: choosing among all of a million rows would cost more time than it saves passes.
LOOK_AHEAD = 4096

Mask: TypeAlias = NDArray[np.bool_]
# Rows of a stratum, by their place in it.
Places: TypeAlias = NDArray[np.int32]


def epoch_order(
    lengths: NDArray[np.int32], *, seed: int, source: int, epoch: int, block: int, stratum: int = 0
) -> Places:
    """Return all rows in the order of one epoch: shuffled, with rows of similar length side by side.

    The shuffled rows are cut into windows of `WINDOW_BLOCKS` x `block`, each window is sorted by length and cut into
    blocks, and all blocks are shuffled: the composition of the blocks differs in every epoch.

    Args:
        lengths: tokens of each row.
        block: rows of similar length to keep together, at least 1.
    """
    key = [seed, (source << 32) + epoch]
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stratum]))
    order = generator.permutation(len(lengths)).astype(np.int32)
    window = WINDOW_BLOCKS * block
    blocks: list[Places] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        blocks.extend(rows[at : at + block] for at in range(0, len(rows), block))
    return np.concatenate([blocks[index] for index in generator.permutation(len(blocks))])


def rows_by_stratum(source: Source) -> list[tuple[tuple[str, ...], NDArray[np.intp]]]:
    """Return the strata of a source: the tasks and the rows of each. Rows without any label belong to none."""
    carries = np.zeros((len(source.tasks), len(source)), dtype=bool)
    codes = np.zeros(len(source), dtype=np.intp)
    for place, task in enumerate(source.tasks):
        carries[place, source.drawn[task]] = True
        codes = np.unique(2 * codes + carries[place], return_inverse=True)[1]  # counted anew, so that none is too great
    rows = np.flatnonzero(carries.any(axis=0))
    if not len(rows):
        return []
    rows = rows[np.argsort(-codes[rows], kind="stable")]
    parts = np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1)
    return [(tuple(task for place, task in enumerate(source.tasks) if carries[place, part[0]]), part) for part in parts]


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
        start: a place in the order before which none is left.
    """

    epoch: int = 0
    position: int = 0
    left: Mask | None = None
    start: int = 0

    def restart(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.position, self.start = self.epoch + 1, 0, 0
        if self.left is not None:
            self.left[:] = True

    def leave_order(self, order: Places) -> None:
        """From now on rows may be seen in another order than the epoch's."""
        if self.left is None:
            self.left = np.zeros(len(order), dtype=bool)
            self.left[order[self.position :]] = True
            self.start = self.position

    def to_json(self, rows: int) -> Any:  # noqa: ANN401
        """Return the rows drawn so far; with a bit for each row that is left, where they do not follow from it."""
        drawn = self.epoch * rows + self.position
        return drawn if self.left is None else [drawn, base64.b64encode(np.packbits(self.left).tobytes()).decode()]

    @classmethod
    def from_json(cls, value: Any, rows: int) -> Cursor:  # noqa: ANN401
        """Read what `to_json` returns."""
        drawn, bits = value if isinstance(value, list) else (value, None)
        epoch, position = divmod(drawn, rows)
        if bits is None:
            return cls(epoch, position)
        packed = np.frombuffer(base64.b64decode(bits), dtype=np.uint8)
        return cls(epoch, position, np.unpackbits(packed, count=rows).astype(bool))


@dataclass
class _Pass:
    """A row on its way through the encoder, and the tasks that it serves, each with its epoch."""

    row: int
    tasks: dict[str, int]


class StratumStream:
    """Draws the rows of one stratum, by their place in it.

    Args:
        order: the order of an epoch.
    """

    def __init__(self, stratum: Stratum, order: Callable[[int], Places]) -> None:
        self.tasks, self.rows = stratum.tasks, stratum.rows
        self.cursors = {task: Cursor() for task in stratum.tasks}
        self._make_order = order
        self._orders: dict[int, Places] = {}

    def order(self, epoch: int) -> Places:
        """Return the order of an epoch; those that no task needs any more are forgotten."""
        if epoch not in self._orders:
            needed = {cursor.epoch for cursor in self.cursors.values()}
            self._orders = {known: order for known, order in self._orders.items() if known in needed}
            self._orders[epoch] = self._make_order(epoch)
        return self._orders[epoch]

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
            rows = self.order(epoch)[start : start + count].tolist()
            passes += [_Pass(row, dict.fromkeys(wanted, epoch)) for row in rows]
            count -= len(rows)
            epoch, position = divmod(epoch * self.rows + start + len(rows), self.rows)
            for cursor in cursors:
                cursor.epoch, cursor.position = epoch, position
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
                cursor.leave_order(stream.order(cursor.epoch))
        tasks = sorted(wanted, key=wanted.__getitem__)
        for place, task in enumerate(tasks, start=1):
            self._serve(task, wanted[task], tasks[place:])
        for cursor in (stream.cursors[task] for task in tasks):
            if cursor.position == stream.rows:
                cursor.restart()
            if not cursor.position:
                cursor.left = None

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
        rows: list[int] = []
        for one in self.passes:
            if len(rows) < count and cursor.left[one.row] and task not in one.tasks:
                one.tasks[task] = cursor.epoch
                cursor.left[one.row] = False
                rows.append(one.row)
        return rows

    def _choose(self, task: str, cursor: Cursor, count: int, later: Sequence[str]) -> list[int]:
        """Return up to so many rows that a task has still to see: each will pass the encoder for it."""
        assert cursor.left is not None
        rows = self._upcoming(cursor, cursor.left, LOOK_AHEAD + 8 * count)
        if count < len(rows):
            others = [name for name in self._stream.tasks if name != task]
            cost = np.zeros(len(rows), dtype=np.intp)
            for name in others:
                left = self._stream.cursors[name].left
                cost += (1 if left is None else left[rows]) * (-len(others) if name in later else 1)
            # What this step has drawn already, and the task saw as the last of its epoch, comes after everything else.
            drawn = np.isin(rows, [one.row for one in self.passes])
            cost += drawn * 2 * (len(others) + 1) ** 2
            rows = rows[np.argsort(cost, kind="stable")[:count]]
        cursor.left[rows] = False
        return rows.tolist()

    def _upcoming(self, cursor: Cursor, left: Mask, most: int) -> Places:
        """Return at least the first `most` rows that are left, in the order of the epoch, or all."""
        order = self._stream.order(cursor.epoch)
        found, number, at = [order[:0]], 0, cursor.start
        cursor.start = len(order)
        while at < len(order) and number < most:
            places = at + np.flatnonzero(left[order[at : at + most]])
            if len(places):
                cursor.start = min(cursor.start, int(places[0]))
                found.append(order[places])
            number, at = number + len(places), at + most
        return np.concatenate(found)


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
    """The streams of all training sources."""

    def __init__(self, sources: Sequence[Source], *, seed: int, block: int) -> None:
        self._places = {task: place for source in sources for place, task in enumerate(source.tasks)}
        self._rows: list[list[NDArray[np.intp]]] = []
        self._streams: list[list[StratumStream]] = []
        for number, source in enumerate(sources):
            found = rows_by_stratum(source)
            self._rows.append([rows for _, rows in found])
            self._streams.append([
                StratumStream(
                    Stratum(tasks, len(rows)),
                    _order_of(source.lengths[rows], seed=seed, source=number, stratum=stratum, block=block),
                )
                for stratum, (tasks, rows) in enumerate(found)
            ])  # fmt: skip

    def draw(self, portions: Iterable[Portion]) -> list[DrawnRow]:
        """Draw what a step asks for; a row serves every task that draws it together with others."""
        return [
            DrawnRow(
                portion.source, int(rows[one.row]), tuple(sorted(one.tasks, key=self._places.__getitem__)), one.tasks
            )
            for portion in portions
            for rows in [self._rows[portion.source][portion.stratum]]
            for one in self._streams[portion.source][portion.stratum].draw(portion.rows)
        ]

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
                stream.cursors = {task: Cursor.from_json(given[task], stream.rows) for task in stream.tasks}


def _order_of(lengths: NDArray[np.int32], **where: int) -> Callable[[int], Places]:
    return lambda epoch: epoch_order(lengths, epoch=epoch, **where)


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
