"""The order of a stratum of any size: shard by shard, so that only the shards in use are held in memory.

The rows are dealt to shards by a computed permutation, so each shard is a fixed random part of the stratum. Each epoch
has its own order of the shards, and of the rows in a shard (`epoch_order`). A task that trains on only some of the
others' rows works through shards of its own; the others join it there, and pass the rows that it does not need
elsewhere. So the state of a task is one bit per shard, and one bit per row of the few shards that it has begun. A
checkpoint holds the bits of the shards after the position at which the task left the order; the task takes the first
and the last of these, so that they compress to a few bytes.
"""

from __future__ import annotations

import base64
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polytask.data.order import LengthsOf, Mask, Ordering, Places, RemainingRows, epoch_order, look_ahead, philox
from polytask.data.permutation import Permutation

# Rows of a shard: enough for several windows of rows of similar length, and sorted within a few milliseconds.
SHARD_ROWS = 16_384
# Number of shard orders that are cached, for tasks that reach the same shard later.
_KEPT = 16


class ShardOrdering(Ordering):
    """Orders that hold only the shards in use: the current shards of the epochs, and those that tasks have begun.

    Args:
        lengths: maps row numbers of the stratum to numbers of tokens.
    """

    def __init__(self, rows: int, lengths: LengthsOf, shard_rows: int = SHARD_ROWS, **where: int) -> None:
        self.rows, self.shard_rows = rows, shard_rows
        self.shards = -(-rows // shard_rows)
        self._lengths, self._where = lengths, where
        self._stratum = where.get("stratum", 0)
        generator = philox(where["seed"], where["source"], 0, 2, 0, self._stratum)
        self._permutation = Permutation(rows, generator)
        self._orders: OrderedDict[tuple[int, int], Places] = OrderedDict()
        self._sequences: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    @property
    def held_rows(self) -> int:
        """The number of rows whose order is held in memory."""
        return sum(map(len, self._orders.values()))

    def spread(self, places: Places) -> NDArray[np.int64]:
        """Return the rows of the stratum at some places of the shards."""
        return self._permutation(places.astype(np.int64))

    def begin(self, shard: int) -> int:
        """Return the first place of a shard."""
        return shard * self.shard_rows

    def size(self, shard: int) -> int:
        """Return the number of rows of a shard; the last one may have fewer."""
        return min(self.shard_rows, self.rows - self.begin(shard))

    def shard_order(self, epoch: int, shard: int) -> Places:
        """Return the places of a shard in the order of an epoch."""
        key = (epoch, shard)
        if key not in self._orders:
            first = self.begin(shard)
            places = np.arange(first, first + self.size(shard), dtype=np.int64)
            lengths = self._lengths(self.spread(places))
            self._orders[key] = first + epoch_order(lengths, epoch=epoch, shard=shard + 1, **self._where)
            while len(self._orders) > _KEPT:
                self._orders.popitem(last=False)
        self._orders.move_to_end(key)
        return self._orders[key]

    def sequence(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shards in the order of an epoch, and the end position of each."""
        if epoch not in self._sequences:
            generator = philox(self._where["seed"], self._where["source"], epoch, 1, 0, self._stratum)
            shards = generator.permutation(self.shards)
            sizes = np.minimum(self.shard_rows, self.rows - shards * self.shard_rows)
            self._sequences[epoch] = shards, np.cumsum(sizes)
        return self._sequences[epoch]

    def keep(self, epochs: Collection[int]) -> None:
        self._sequences = {epoch: sequence for epoch, sequence in self._sequences.items() if epoch in epochs}

    def following(self, epoch: int, position: int, count: int) -> Places:
        shards, ends = self.sequence(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        shard = int(shards[place])
        inside = position - (int(ends[place]) - self.size(shard))
        return self.shard_order(epoch, shard)[inside : inside + count]

    def remaining(self, epoch: int, position: int) -> RemainingRows:
        shards, ends = self.sequence(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        untouched, begun = np.zeros(self.shards, dtype=bool), dict[int, _StartedShard]()
        untouched[shards[place:]] = True
        shard = int(shards[place])
        inside = position - (int(ends[place]) - self.size(shard))
        rows = _ShardRows(self, epoch, untouched, begun, place)
        if inside:
            rows.take(self.shard_order(epoch, shard)[:inside])
        return rows

    def read_remaining(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        start, bits, listed = saved
        begun = {shard: _StartedShard(_unpacked(mask, self.size(shard))) for shard, mask in listed}
        behind = self.behind(epoch, start)
        untouched = np.zeros(self.shards, dtype=bool)
        untouched[behind] = _unpacked(bits, len(behind))
        return _ShardRows(self, epoch, untouched, begun, start)

    def behind(self, epoch: int, start: int) -> NDArray[np.int64]:
        """Return the shards from a position of an epoch's order of shards, sorted by number."""
        return np.sort(self.sequence(epoch)[0][start:])


@dataclass
class _StartedShard:
    """A shard of which a task has seen some rows.

    Attributes:
        mask: which rows remain.
        order: places of the shard in the order of the task's epoch; computed on demand.
        start: position in the order before which no row remains.
    """

    mask: Mask
    order: Places | None = None
    start: int = 0


class _ShardRows(RemainingRows):
    """Remaining rows as one bit per shard, and one bit per row of the shards that have been begun.

    Args:
        untouched: shards of which all rows remain.
        begun: shards of which some rows remain.
        start: position in the epoch's order of shards before which no shard is untouched.
    """

    def __init__(
        self, ordering: ShardOrdering, epoch: int, untouched: Mask, begun: dict[int, _StartedShard], start: int
    ) -> None:
        self._ordering, self._epoch, self._start = ordering, epoch, start
        self.untouched, self.begun = untouched, begun

    def claims(self, places: Places) -> NDArray[np.int8]:
        shards = places // self._ordering.shard_rows
        claims = self.untouched[shards].astype(np.int8)
        for shard in self._begun_among(shards):
            inside = np.flatnonzero(shards == shard)
            claims[inside] = 2 * self.begun[shard].mask[places[inside] - self._ordering.begin(shard)]
        return claims

    def claims_in(self, shard: int, places: Places) -> NDArray[np.int8]:
        """Return `claims` of rows in one shard; a single number if it is the same for all."""
        started = self.begun.get(shard)
        if started is None:
            return self.untouched[shard : shard + 1].view(np.int8)
        return 2 * started.mask[places - self._ordering.begin(shard)].view(np.int8)

    def take(self, places: Places) -> None:
        shards = places // self._ordering.shard_rows
        for shard in set(shards.tolist()):
            if self.untouched[shard]:
                self.untouched[shard] = False
                self.begun[shard] = _StartedShard(np.ones(self._ordering.size(shard), dtype=bool))
            started = self.begun[shard]
            started.mask[places[shards == shard] - self._ordering.begin(shard)] = False
            if not started.mask.any():
                del self.begun[shard]

    def _begun_among(self, shards: NDArray[Any]) -> list[int]:
        """Return the begun shards that occur in `shards`."""
        few = len(self.begun) < 4
        return list(self.begun) if few else [shard for shard in np.unique(shards).tolist() if shard in self.begun]

    def restart(self, epoch: int) -> None:
        self._epoch, self._start = epoch, 0
        self.untouched[:] = True
        self.begun.clear()

    def candidates(self, count: int, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return rows of the shards that have been begun, and of another one if too few of them suit.

        A row suits if the tasks that choose later can join on it, and no other task has begun its shard.
        """
        most, chosen, suited = look_ahead(count), list[Places](), 0
        for shard, rows in self._upcoming(most):
            suits = np.ones(len(rows), dtype=bool)
            for remaining in later:
                suits &= _of(remaining).claims_in(shard, rows) > 0
            for remaining in others:
                suits &= _of(remaining).claims_in(shard, rows) < 2
            chosen.append(rows)
            suited += np.count_nonzero(suits)
            if suited >= most:
                break
        if suited < count:
            chosen.append(self._another(later, others))
        return np.concatenate(chosen)

    def _upcoming(self, most: int) -> Iterator[tuple[int, Places]]:
        """Yield each begun shard with up to `most` of its remaining rows, in the order in which shards were begun."""
        for shard, started in self.begun.items():
            if started.order is None:
                started.order = self._ordering.shard_order(self._epoch, shard)
            ahead = started.order[started.start :]
            places = np.flatnonzero(started.mask[ahead - self._ordering.begin(shard)])
            started.start += int(places[0])
            yield shard, ahead[places[:most]]

    def _another(self, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return the rows of a new shard: one on which all tasks that choose later can join, and that few others need.

        If others can join, it is taken from the end, otherwise from the front, so that shards that several tasks share
        stay apart from those of a single task.
        """
        shards = np.flatnonzero(self.untouched)
        if not len(shards):
            return shards
        missed = np.zeros(len(shards), dtype=np.int64)
        for remaining in map(_of, later):
            missed += ~remaining.untouched[shards] * (2 * len(others) + 1)
        for remaining in map(_of, others):
            missed += remaining.untouched[shards]
            missed[np.isin(shards, list(remaining.begun))] += 2
        best = np.flatnonzero(missed == missed.min())
        return self._ordering.shard_order(self._epoch, int(shards[best[-1 if later else 0]]))

    def to_json(self) -> list[Any]:
        untouched = self.untouched[self._ordering.behind(self._epoch, self._start)]
        return [
            self._start,
            _packed(untouched),
            [[shard, _packed(started.mask)] for shard, started in self.begun.items()],
        ]


def _of(remaining: RemainingRows) -> _ShardRows:
    """Narrow the type: all tasks of a stratum with shards have this class."""
    assert isinstance(remaining, _ShardRows)
    return remaining


def _packed(mask: Mask) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def _unpacked(text: str, count: int) -> Mask:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)
