"""The order in which the rows of a stratum come, epoch by epoch, and what a task that leaves it has still to see."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Rows of similar length are drawn together: windows of this many blocks are sorted by length.
WINDOW_BLOCKS = 50
# A task that chooses among the rows that it has still to see looks at so many, which is enough to find those that
# others want as well: choosing among all of a million rows would cost more time than it saves passes.
LOOK_AHEAD = 4096

Mask: TypeAlias = NDArray[np.bool_]
# Rows of a stratum, by their place in it.
Places: TypeAlias = NDArray[np.signedinteger[Any]]
# The tokens of some rows of a stratum.
LengthsOf: TypeAlias = Callable[[Places], NDArray[np.int32]]


class RemainingRows(ABC):
    """The rows that a task has still to see in its epoch, where they do not follow from how many it has seen."""

    @abstractmethod
    def claims(self, places: Places) -> NDArray[np.int8]:
        """Return which of some rows are left, as 1; as 2 where they lie among rows that the task is about to finish."""

    @abstractmethod
    def take(self, places: Places) -> None:
        """Note rows as seen."""

    @abstractmethod
    def restart(self, epoch: int) -> None:
        """Begin an epoch, of which all rows are left."""

    @abstractmethod
    def candidates(self, count: int, later: Sequence[RemainingRows], others: Sequence[RemainingRows]) -> Places:
        """Return rows that are left, in the order of the epoch, to choose `count` from; fewer where few are left.

        Args:
            later: what is left to the tasks that choose after this one in the step.
            others: what is left to the tasks that do not.
        """

    @abstractmethod
    def to_json(self) -> list[Any]:
        """Return it as JSON."""


class Ordering(ABC):
    """The order of a stratum's rows in every epoch, a function of the epoch alone."""

    @abstractmethod
    def following(self, epoch: int, position: int, count: int) -> Places:
        """Return the rows from a position of an epoch on: at most `count`, at least one."""

    @abstractmethod
    def left(self, epoch: int, position: int) -> RemainingRows:
        """Return what is left behind a position of an epoch."""

    @abstractmethod
    def read_left(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        """Read what `RemainingRows.to_json` returned."""

    def keep(self, epochs: Collection[int]) -> None:
        """Forget the order of all other epochs."""
        del epochs


def epoch_order(
    lengths: NDArray[np.int32], *, seed: int, source: int, epoch: int, block: int, stratum: int = 0, shard: int = 0
) -> Places:
    """Return all rows in the order of one epoch: shuffled, with rows of similar length side by side.

    The shuffled rows are cut into windows of `WINDOW_BLOCKS` x `block`, each window is sorted by length and cut into
    blocks, and all blocks are shuffled: the composition of the blocks differs in every epoch.

    Args:
        lengths: tokens of each row.
        block: rows of similar length to keep together, at least 1.
        shard: of a stratum that is ordered shard by shard, from 1.
    """
    generator = philox(seed, source, epoch, 0, shard, stratum)
    order = generator.permutation(len(lengths)).astype(np.int32)
    window = np.arange(len(order)) // (WINDOW_BLOCKS * block)
    order = order[np.lexsort((lengths[order], window))]
    # Blocks are cut window by window: only the last one of all can be shorter, since a window holds whole blocks.
    starts = block * generator.permutation(-(-len(order) // block))
    places = (starts[:, None] + np.arange(block)).ravel()
    return order[places[places < len(order)]]


def philox(seed: int, source: int, epoch: int, *counter: int) -> np.random.Generator:
    """Return the generator of an epoch of a source; those of different counters never meet.

    Args:
        counter: three numbers, of which the last is the stratum's.
    """
    key = [seed, (source << 32) + epoch]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, *counter]))


def look_ahead(count: int) -> int:
    """Return among how many rows a task chooses so many."""
    return LOOK_AHEAD + 8 * count


class WholeOrdering(Ordering):
    """Orders that are held as a whole: one number a row, for each epoch that a task is in."""

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
        self._orders = {known: order for known, order in self._orders.items() if known in epochs}

    def following(self, epoch: int, position: int, count: int) -> Places:
        return self.order(epoch)[position : position + count]

    def left(self, epoch: int, position: int) -> RemainingRows:
        mask = np.zeros(self.rows, dtype=bool)
        mask[self.order(epoch)[position:]] = True
        return _MaskedLeft(self, epoch, mask, position)

    def read_left(self, epoch: int, saved: Sequence[Any]) -> RemainingRows:
        packed = np.frombuffer(base64.b64decode(saved[0]), dtype=np.uint8)
        return _MaskedLeft(self, epoch, np.unpackbits(packed, count=self.rows).astype(bool))


class _MaskedLeft(RemainingRows):
    """One bit a row.

    Args:
        start: a place in the order before which none is left.
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
        found, number, at = [order[:0]], 0, self._start
        self._start = len(order)
        while at < len(order) and number < most:
            places = at + np.flatnonzero(self._mask[order[at : at + most]])
            if len(places):
                self._start = min(self._start, int(places[0]))
                found.append(order[places])
            number, at = number + len(places), at + most
        return np.concatenate(found)

    def to_json(self) -> list[Any]:
        return [base64.b64encode(np.packbits(self._mask).tobytes()).decode()]
