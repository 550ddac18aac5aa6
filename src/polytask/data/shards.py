"""The order of a stratum of any number of rows: shard by shard, so that only the shards in use are held.

The rows are dealt to shards by a computed permutation, so each shard is a random part of the stratum and stays one. An
epoch passes all shards in an order of its own, and the rows of a shard in an order of their own (`epoch_order`). A task
that trains on a part of the others' rows finishes shards of its own, in which the others join it while they pass what
it does not ask for elsewhere. So the state of a task is a bit a shard, and a bit a row of the few shards that it has
begun. In a checkpoint the bits of the shards are those behind the place at which the task left the order: of these it
takes the first ones and the last ones, so that they take a few bytes.
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

# Rows of a shard: enough windows of rows of similar length, and ordered within a few milliseconds.
SHARD_ROWS = 16_384
# Orders of shards that are kept for tasks that come by after another one.
_KEPT = 16


class ShardOrdering(Ordering):
    """Orders of which the shards in use are held: those of the epochs' orders, and those that tasks have begun.

    Args:
        lengths: tokens of some of the stratum's rows, by their number.
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
    def held(self) -> int:
        """The number of rows whose order is held."""
        return sum(map(len, self._orders.values()))

    def spread(self, places: Places) -> NDArray[np.int64]:
        """Return which rows of the stratum stand at some places of the shards."""
        return self._permutation(places.astype(np.int64))

    def begin(self, shard: int) -> int:
        """Return the first place of a shard."""
        return shard * self.shard_rows

    def size(self, shard: int) -> int:
        """Return the rows of a shard; the last one may have fewer."""
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
        """Return the shards in the order of an epoch, and the position at which each ends."""
        if epoch not in self._sequences:
            generator = philox(self._where["seed"], self._where["source"], epoch, 1, 0, self._stratum)
            shards = generator.permutation(self.shards)
            sizes = np.minimum(self.shard_rows, self.rows - shards * self.shard_rows)
            self._sequences[epoch] = shards, np.cumsum(sizes)
        return self._sequences[epoch]

    def keep(self, epochs: Collection[int]) -> None:
        self._sequences = {known: found for known, found in self._sequences.items() if known in epochs}

    def following(self, epoch: int, position: int, count: int) -> Places:
        shards, ends = self.sequence(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        shard = int(shards[place])
        inside = position - (int(ends[place]) - self.size(shard))
        return self.shard_order(epoch, shard)[inside : inside + count]

    def left(self, epoch: int, position: int) -> RemainingRows:
        shards, ends = self.sequence(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        untouched, begun = np.zeros(self.shards, dtype=bool), dict[int, _StartedShard]()
        untouched[shards[place:]] = True
        shard = int(shards[place])
        inside = position - (int(ends[place]) - self.size(shard))
        found = _ShardLeft(self, epoch, untouched, begun, place)
        if inside:
            found.take(self.shard_order(epoch, shard)[:inside])
        return found

    def read_left(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        start, bits, listed = saved
        begun = {shard: _StartedShard(_unpacked(mask, self.size(shard))) for shard, mask in listed}
        behind = self.behind(epoch, start)
        untouched = np.zeros(self.shards, dtype=bool)
        untouched[behind] = _unpacked(bits, len(behind))
        return _ShardLeft(self, epoch, untouched, begun, start)

    def behind(self, epoch: int, start: int) -> NDArray[np.int64]:
        """Return the shards from a place of an epoch's order of shards on, by their numbers."""
        return np.sort(self.sequence(epoch)[0][start:])


@dataclass
class _StartedShard:
    """A shard of which a task has seen some rows.

    Attributes:
        mask: which are left.
        order: their places in the order of the task's epoch, once somebody asked.
        start: a place in the order before which none is left.
    """

    mask: Mask
    order: Places | None = None
    start: int = 0


class _ShardLeft(RemainingRows):
    """One bit a shard, and one bit a row of the shards that are begun.

    Args:
        untouched: shards of which all rows are left.
        begun: those of which some are.
        start: a place in the epoch's order of shards, before which no shard is untouched.
    """

    def __init__(
        self, ordering: ShardOrdering, epoch: int, untouched: Mask, begun: dict[int, _StartedShard], start: int
    ) -> None:
        self._ordering, self._epoch, self._start = ordering, epoch, start
        self.untouched, self.begun = untouched, begun

    def claims(self, places: Places) -> NDArray[np.int8]:
        shards = places // self._ordering.shard_rows
        found = self.untouched[shards].astype(np.int8)
        for shard in self._begun_among(shards):
            inside = np.flatnonzero(shards == shard)
            found[inside] = 2 * self.begun[shard].mask[places[inside] - self._ordering.begin(shard)]
        return found

    def claims_in(self, shard: int, places: Places) -> NDArray[np.int8]:
        """Return `claims` of rows that lie in one shard; one number where it is that of all."""
        one = self.begun.get(shard)
        if one is None:
            return self.untouched[shard : shard + 1].view(np.int8)
        return 2 * one.mask[places - self._ordering.begin(shard)].view(np.int8)

    def take(self, places: Places) -> None:
        shards = places // self._ordering.shard_rows
        for shard in set(shards.tolist()):
            if self.untouched[shard]:
                self.untouched[shard] = False
                self.begun[shard] = _StartedShard(np.ones(self._ordering.size(shard), dtype=bool))
            one = self.begun[shard]
            one.mask[places[shards == shard] - self._ordering.begin(shard)] = False
            if not one.mask.any():
                del self.begun[shard]

    def _begun_among(self, shards: NDArray[Any]) -> list[int]:
        """Return those of the begun shards that occur."""
        few = len(self.begun) < 4
        return list(self.begun) if few else [shard for shard in np.unique(shards).tolist() if shard in self.begun]

    def restart(self, epoch: int) -> None:
        self._epoch, self._start = epoch, 0
        self.untouched[:] = True
        self.begun.clear()

    def candidates(self, count: int, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return rows of the shards that are begun, and of another one where too few of them suit.

        A row suits when those that choose later can join on it, and nobody else is about to finish its shard.
        """
        most, found, suited = look_ahead(count), list[Places](), 0
        for shard, rows in self._upcoming(most):
            suits = np.ones(len(rows), dtype=bool)
            for left in later:
                suits &= _of(left).claims_in(shard, rows) > 0
            for left in others:
                suits &= _of(left).claims_in(shard, rows) < 2
            found.append(rows)
            suited += np.count_nonzero(suits)
            if suited >= most:
                break
        if suited < count:
            found.append(self._another(later, others))
        return np.concatenate(found)

    def _upcoming(self, most: int) -> Iterator[tuple[int, Places]]:
        """Yield each shard that is begun with up to so many rows of it; what was begun first comes first."""
        for shard, one in self.begun.items():
            if one.order is None:
                one.order = self._ordering.shard_order(self._epoch, shard)
            ahead = one.order[one.start :]
            places = np.flatnonzero(one.mask[ahead - self._ordering.begin(shard)])
            one.start += int(places[0])
            yield shard, ahead[places[:most]]

    def _another(self, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return the rows of a shard to begin: one in which all that choose later can join, and that few others want.

        From the end where others can join, from the front where one is alone: so what several tasks share and what one
        passes for itself lie apart, and neither takes the other's.
        """
        shards = np.flatnonzero(self.untouched)
        if not len(shards):
            return shards
        missed = np.zeros(len(shards), dtype=np.int64)
        for left in map(_of, later):
            missed += ~left.untouched[shards] * (2 * len(others) + 1)
        for left in map(_of, others):
            missed += left.untouched[shards]
            missed[np.isin(shards, list(left.begun))] += 2
        best = np.flatnonzero(missed == missed.min())
        return self._ordering.shard_order(self._epoch, int(shards[best[-1 if later else 0]]))

    def to_json(self) -> list[Any]:
        untouched = self.untouched[self._ordering.behind(self._epoch, self._start)]
        return [self._start, _packed(untouched), [[shard, _packed(one.mask)] for shard, one in self.begun.items()]]


def _of(left: RemainingRows) -> _ShardLeft:
    """Return what is left of a stratum that is ordered shard by shard: all of its tasks have this form."""
    assert isinstance(left, _ShardLeft)
    return left


def _packed(mask: Mask) -> str:
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()


def _unpacked(text: str, count: int) -> Mask:
    packed = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)
