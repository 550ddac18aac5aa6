"""The order of a stratum's rows in each epoch, and the remaining rows of tasks that leave this order."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# To draw rows of similar length together, windows of this many blocks are sorted by length.
WINDOW_BLOCKS = 50
# Number of remaining rows among which a task chooses. This is enough to find rows that other tasks need too; choosing
# among all of a million rows would cost more time than the saved passes.
LOOK_AHEAD = 4096

Mask: TypeAlias = NDArray[np.bool_]
# Rows of a stratum, as indices.
Places: TypeAlias = NDArray[np.signedinteger[Any]]
# Maps rows of a stratum to their numbers of tokens.
LengthsOf: TypeAlias = Callable[[Places], NDArray[np.int32]]


class RemainingRows(ABC):
    """The rows that a task still has to see in its epoch, for tasks that do not follow the epoch's order."""

    @abstractmethod
    def claims(self, places: Places) -> NDArray[np.int8]:
        """Return 1 for each remaining row, 2 for those in a shard that the task has begun, and 0 for other rows."""

    @abstractmethod
    def take(self, places: Places) -> None:
        """Mark rows as seen."""

    @abstractmethod
    def restart(self, epoch: int) -> None:
        """Begin an epoch, with all rows remaining."""

    @abstractmethod
    def candidates(self, count: int, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return remaining rows, in the order of the epoch, to choose `count` from; fewer if few remain.

        Args:
            later: remaining rows of the tasks that choose after this one in the step.
            others: remaining rows of all other tasks.
        """

    @abstractmethod
    def to_json(self) -> list[Any]:
        """Return the remaining rows as JSON."""


class Ordering(ABC):
    """The order of a stratum's rows in every epoch, which only depends on the epoch."""

    @abstractmethod
    def following(self, epoch: int, position: int, count: int) -> Places:
        """Return at most `count` rows, and at least one, from a position of an epoch."""

    @abstractmethod
    def remaining(self, epoch: int, position: int) -> RemainingRows:
        """Return the rows that remain after a position of an epoch."""

    @abstractmethod
    def read_remaining(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        """Restore the remaining rows from `RemainingRows.to_json`."""

    def keep(self, epochs: Collection[int]) -> None:
        """Discard the orders of all other epochs."""
        del epochs


def epoch_order(
    lengths: NDArray[np.int32], *, seed: int, source: int, epoch: int, block: int, stratum: int = 0, shard: int = 0
) -> Places:
    """Return all rows in the order of one epoch: shuffled, with rows of similar length side by side.

    The shuffled rows are cut into windows of `WINDOW_BLOCKS` x `block`, each window is sorted by length and cut into
    blocks, and all blocks are shuffled: the composition of the blocks differs in every epoch.

    Args:
        lengths: number of tokens of each row.
        block: number of rows of similar length to keep together, at least 1.
        shard: number of the shard, from 1, if the stratum is ordered shard by shard.
    """
    generator = philox(seed, source, epoch, 0, shard, stratum)
    order = generator.permutation(len(lengths)).astype(np.int32)
    window = np.arange(len(order)) // (WINDOW_BLOCKS * block)
    order = order[np.lexsort((lengths[order], window))]
    # Blocks do not cross windows: a window holds whole blocks, so only the very last block can be shorter.
    starts = block * generator.permutation(-(-len(order) // block))
    places = (starts[:, None] + np.arange(block)).ravel()
    return order[places[places < len(order)]]


def philox(seed: int, source: int, epoch: int, *counter: int) -> np.random.Generator:
    """Return the random generator of an epoch of a source; different counters give independent streams.

    Args:
        counter: three numbers, the last being that of the stratum.
    """
    key = [seed, (source << 32) + epoch]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, *counter]))


def look_ahead(count: int) -> int:
    """Return the number of rows among which a task chooses `count`."""
    return LOOK_AHEAD + 8 * count


class WholeOrdering(Ordering):
    """Orders held in memory as a whole: one number per row, for each epoch that a task is in."""

    def __init__(self, rows: int, lengths: LengthsOf, **where: int) -> None:
        self.rows = rows
        self._lengths, self._where = lengths, where
        self._orders: dict[int, Places] = {}

    def order(self, epoch: int) -> Places:
        """Return the order of an epoch."""
        if epoch not in self._orders:
            lengths = self._lengths(np.arange(self.rows, dtype=np.int32))
            self._orders[epoch] = epoch_order(lengths, epoch=epoch, **self._where)
        return self._orders[epoch]

    def keep(self, epochs: Collection[int]) -> None:
        self._orders = {epoch: order for epoch, order in self._orders.items() if epoch in epochs}

    def following(self, epoch: int, position: int, count: int) -> Places:
        return self.order(epoch)[position : position + count]

    def remaining(self, epoch: int, position: int) -> RemainingRows:
        mask = np.zeros(self.rows, dtype=bool)
        mask[self.order(epoch)[position:]] = True
        return _MaskedRows(self, epoch, mask, position)

    def read_remaining(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        packed = np.frombuffer(base64.b64decode(saved[0]), dtype=np.uint8)
        return _MaskedRows(self, epoch, np.unpackbits(packed, count=self.rows).astype(bool))


class _MaskedRows(RemainingRows):
    """Remaining rows as one bit per row.

    Args:
        start: position in the order before which no row remains.
    """

    def __init__(self, ordering: WholeOrdering, epoch: int, mask: Mask, start: int = 0) -> None:
        self._ordering, self._epoch = ordering, epoch
        self._mask, self._start = mask, start

    def claims(self, places: Places) -> NDArray[np.int8]:
        return self._mask[places].view(np.int8)

    def take(self, places: Places) -> None:
        self._mask[places] = False

    def restart(self, epoch: int) -> None:
        self._epoch, self._start = epoch, 0
        self._mask[:] = True

    def candidates(self, count: int, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        del later, others
        order, most = self._ordering.order(self._epoch), look_ahead(count)
        rows, number, at = [order[:0]], 0, self._start
        self._start = len(order)
        while at < len(order) and number < most:
            places = at + np.flatnonzero(self._mask[order[at : at + most]])
            if len(places):
                self._start = min(self._start, int(places[0]))
                rows.append(order[places])
            number, at = number + len(places), at + most
        return np.concatenate(rows)

    def to_json(self) -> list[Any]:
        return [base64.b64encode(np.packbits(self._mask).tobytes()).decode()]
